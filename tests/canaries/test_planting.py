"""Where canaries go, and that nothing else changes."""

from __future__ import annotations

import io
import random
from collections import Counter

import pytest

from data_prep.canaries.canary import CanarySettings, draw_canaries
from data_prep.canaries.planting import Place, count_documents, plan, planted
from data_prep.common.errors import UserError


def lines(text: bytes) -> io.BytesIO:
    return io.BytesIO(text)


def plant(text: bytes, places: dict[int, list[Place]]) -> bytes:
    return b"".join(planted(lines(text), places))


@pytest.mark.parametrize(
    ("text", "count"),
    [(b"", 0), (b"\n\n", 0), (b"a", 1), (b"a\nb\n\n\nc\n", 2), (b"\n\na\n \t\nb\n\n", 2),
     ("a\n\u00a0\nb\n".encode(), 2), (b"a\n\xff\nb", 1)],
)  # fmt: skip
def test_documents_are_counted_as_create_pretraining_data_counts(text: bytes, count: int) -> None:
    assert count_documents(lines(text)) == count


TEXT = b"\n\nfirst a\nfirst b\n\n  second\r\n\n\xff third\nthird b"


def test_sentences_stand_where_they_are_to() -> None:
    got = plant(TEXT, {0: [Place(0.5, "X.")], 1: [Place(0.0, "Y.")], 2: [Place(0.99, "Z.")]})
    assert got == (b"\n\nfirst a\nX.\nfirst b\n\nY.\n  second\r\n\n\xff third\nthird b\nZ.\n")
    assert plant(TEXT, {1: [Place(0.9, "B."), Place(0.7, "A.")]}) == TEXT.replace(
        b"second\r\n", b"second\r\nA.\nB.\n"
    )


def test_without_sentences_no_byte_changes() -> None:
    assert plant(TEXT, {}) == TEXT
    assert plant(b"", {}) == b""


def random_text(seed: int) -> bytes:
    rng = random.Random(seed)
    documents = ["\n".join(f"s{rng.random()}" for _ in range(rng.randint(1, 7))) for _ in range(50)]
    return ("\n\n".join(documents) + rng.choice(["", "\n", "\n\n"])).encode()


@pytest.mark.parametrize("seed", range(5))
def test_each_repetition_has_a_document_and_the_rest_is_the_text(seed: int) -> None:
    canaries = draw_canaries(CanarySettings(num_canaries=2, repetitions="1,3,16", random_seed=seed))
    text = random_text(seed)
    places = plan(canaries.canaries, {"a": 50}, seed)["a"]
    got = plant(text, places).decode()
    assert count_documents(lines(got.encode())) == 50
    per_document = [
        [line for line in document.split("\n") if line in {c.text for c in canaries.canaries}]
        for document in got.split("\n\n")
    ]
    # 40 sentences and 50 documents: nobody shares one.
    assert max(map(len, per_document)) == 1
    found = Counter(line for document in per_document for line in document)
    assert found == {c.text: c.repetitions for c in canaries.canaries if c.repetitions}
    kept = "\n".join(line for line in got.split("\n") if line not in found)
    assert kept.rstrip("\n") == text.decode().rstrip("\n")


def test_documents_are_shared_only_where_there_are_too_few() -> None:
    canaries = draw_canaries(CanarySettings(num_canaries=8, repetitions="4,16")).canaries
    places = plan(canaries, {"b": 9, "a": 8}, 1)
    assert set(places) == {"a", "b"}
    sentences = [
        [place.sentence for place in there] for p in places.values() for there in p.values()
    ]
    assert len(sentences) == 17
    assert all(len(set(there)) == len(there) for there in sentences)
    assert Counter(s for there in sentences for s in there) == {
        c.text: c.repetitions for c in canaries if c.repetitions
    }


def test_too_few_documents_are_an_error() -> None:
    canaries = draw_canaries(CanarySettings(num_canaries=1, repetitions="4")).canaries
    with pytest.raises(UserError, match="in 4 documents, but the text has 3"):
        plan(canaries, {"a": 2, "b": 1}, 1)
