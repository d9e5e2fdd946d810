"""Repeated notes: found when they are, kept when they are not."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from data_prep.formatting import duplicates as deduplication
from data_prep.formatting.duplicates import ExactDuplicates, NearDuplicates, Signature, Signatures

WORDS = [f"word{number}" for number in range(3000)]


def notes(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=200)) for _ in range(count)]


def altered(text: str, words: int, seed: int = 0) -> str:
    """Replaces so many words, spread evenly."""
    rng = random.Random(seed)
    parts = text.split()
    for number in range(words):
        parts[number * len(parts) // words] = rng.choice(WORDS)
    return " ".join(parts)


def jaccard(a: str, b: str) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return set(zip(words, words[1:], words[2:], strict=False))

    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


@pytest.mark.parametrize("finder", [ExactDuplicates(), NearDuplicates(0.8)])
def test_equal_but_for_white_space_and_case(finder) -> None:
    assert not finder.is_duplicate("Pt stable.\n\nGo home.")
    assert finder.is_duplicate("pt STABLE.  Go\nhome. ")
    assert not finder.is_duplicate("Pt unstable.\n\nStay here now.")


def test_near_duplicates_by_their_similarity() -> None:
    originals = notes(150)
    close = [altered(text, 2, seed) for seed, text in enumerate(originals)]
    far = [altered(text, 40, seed) for seed, text in enumerate(originals)]
    assert all(jaccard(a, b) > 0.93 for a, b in zip(originals, close, strict=True))
    assert all(jaccard(a, b) < 0.6 for a, b in zip(originals, far, strict=True))
    finder = NearDuplicates(0.8)
    assert not any(map(finder.is_duplicate, originals))
    assert sum(map(finder.is_duplicate, close)) >= 148
    assert not any(map(finder.is_duplicate, far))


def test_answers_stay_when_the_index_is_merged(monkeypatch) -> None:
    stream = [text for text in notes(90) for _ in range(2)]
    random.Random(5).shuffle(stream)
    expected = list(map(NearDuplicates(0.8).is_duplicate, stream))
    monkeypatch.setattr(deduplication, "_NOTES_BEFORE_MERGE", 7)
    monkeypatch.setattr(deduplication, "_SIGNATURES_IN_BLOCK", 16)
    assert list(map(NearDuplicates(0.8).is_duplicate, stream)) == expected
    assert sum(expected) == 90


def chains(seed: int) -> list[str]:
    """Notes in families whose members are ever further from the first, and others, in any order."""
    rng = random.Random(seed)
    stream = notes(6, seed + 1000)
    for text in notes(12, seed):
        for step in range(rng.randint(1, 9)):
            stream.append(text)
            text = altered(text, rng.choice([0, 1, 5, 15]), seed * 100 + step)
    rng.shuffle(stream)
    return stream


@pytest.mark.parametrize("notes_before_merge", [1, 2, 3, 100])
def test_the_first_text_of_a_band_stands_for_it(monkeypatch, notes_before_merge: int) -> None:
    monkeypatch.setattr(deduplication, "_NOTES_BEFORE_MERGE", notes_before_merge)
    finder = NearDuplicates(0.8)
    bands = Signatures(0.8).num_bands

    def signature(value: int, number: int) -> Signature:
        keys = np.arange(number * bands, (number + 1) * bands, dtype=np.uint64)
        keys[0] = 7
        return Signature(np.full(deduplication.PERMUTATIONS, value, np.uint16), keys)

    # All share a key; the third is like the first, the fourth like the second, which is not it.
    answers = [finder.decide(signature(value, 1 + n)) for n, value in enumerate((3, 4, 3, 4))]
    assert answers == [False, False, True, False]


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_texts_that_share_no_key_can_be_left_out(monkeypatch, threshold: float) -> None:
    monkeypatch.setattr(deduplication, "_NOTES_BEFORE_MERGE", 3)
    make = Signatures(threshold)
    for seed in range(8):
        signatures = [make(text) for text in chains(seed)]
        counts = Counter(
            key for signature in signatures for key in enumerate(signature.keys.tolist())
        )
        colliding = [any(counts[key] > 1 for key in enumerate(s.keys.tolist())) for s in signatures]
        assert 0 < sum(colliding) < len(colliding)
        expected = list(map(NearDuplicates(threshold).decide, signatures))
        few = NearDuplicates(threshold)
        assert expected == [
            collides and few.decide(signature)
            for collides, signature in zip(colliding, signatures, strict=True)
        ]


def test_threshold_of_one_wants_the_same_shingles() -> None:
    (text,) = notes(1)
    finder = NearDuplicates(1.0)
    assert not finder.is_duplicate(text)
    assert finder.is_duplicate(text.upper())
    assert not finder.is_duplicate(altered(text, 10))
