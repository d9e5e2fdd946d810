"""Other labels than BIO keep their entities."""

from __future__ import annotations

import random

import pytest

from bert_clinical.tasks.schemes import BILOU, BIO, BIOES, IOB1, LABEL, to_bio
from bert_clinical.tasks.scores import entities


@pytest.mark.parametrize(
    ("labels", "expected", "scheme"),
    [
        ("O O", "O O", BIO),
        ("B-a I-a O B-b", "B-a I-a O B-b", BIO),
        # What breaks the rules in one place is no other scheme.
        ("O I-a O B-a", "O I-a O B-a", BIO),
        ("B I O B", "B I O B", BIO),
        ("S-a O B-a E-a", "B-a O B-a I-a", BIOES),
        ("B-a I-a E-a S-a B-b E-b", "B-a I-a I-a B-a B-b I-b", BIOES),
        ("U-a B-a I-a L-a U-E-b", "B-a B-a I-a I-a B-E-b", BILOU),
        ("I-a I-a O I-a", "B-a I-a O B-a", IOB1),
        ("I-a B-a I-a I-b", "B-a B-a I-a B-b", IOB1),
        ("I I B O I", "B I B O B", IOB1),
    ],
)
def test_labels_become_bio(labels: str, expected: str, scheme: str) -> None:
    assert all(LABEL.fullmatch(label) for label in labels.split())
    assert to_bio([labels.split()]) == ([tuple(expected.split())], scheme)


def test_a_sentence_does_not_follow_the_one_before() -> None:
    assert to_bio([["O", "I-a"], ["I-a", "B-a"]])[0] == [("O", "B-a"), ("B-a", "B-a")]


@pytest.mark.parametrize(
    ("scheme", "last", "single"), [(BIOES, "E", "S"), (BILOU, "L", "U"), (IOB1, "", "")]
)
def test_entities_of_random_labels_stay_the_same(scheme: str, last: str, single: str) -> None:
    rng = random.Random(3)
    sentences, expected = [], []
    for _ in range(200):
        bio, other = [], []
        for _ in range(rng.randint(1, 5)):
            kind, size = rng.choice(["a", "b-c"]), rng.randint(1, 3)
            follows = bool(bio) and bio[-1][1:] == f"-{kind}"
            begin = "B" if scheme != IOB1 or follows else "I"
            bio += [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
            marks = [begin, *["I"] * (size - 1)]
            if last:
                marks[-1] = last if size > 1 else single
            other += [f"{mark}-{kind}" for mark in marks]
            gap = rng.randint(0, 2)
            bio += ["O"] * gap
            other += ["O"] * gap
        sentences.append(other)
        expected.append(tuple(bio))
    found, said = to_bio(sentences)
    assert (found, said) == (expected, scheme)
    assert sum(map(len, map(entities, found))) > 500


@pytest.mark.parametrize("label", ["", "X-a", "E", "S", "B_a", "B-", "b-a", "OO", "B-a b", "DRUG"])
def test_what_is_no_label(label: str) -> None:
    assert not LABEL.fullmatch(label)
