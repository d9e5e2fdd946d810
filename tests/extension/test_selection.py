"""Which entries are chosen, counted by hand."""

from __future__ import annotations

import random
import string

import pytest

from bert_clinical.extension.selection import Entry, choose_entries
from bert_clinical.tokenization import WordpieceTokenizer

LETTERS = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]


def vocabulary(*entries: str) -> dict[str, int]:
    return {entry: number for number, entry in enumerate(["[UNK]", *LETTERS, *entries])}


def pieces_of(words: dict[str, int], vocab: dict[str, int]) -> int:
    split = WordpieceTokenizer(vocab).tokenize
    return sum(count * len(split(word)) for word, count in words.items())


def test_what_saves_most_comes_first() -> None:
    words = {"heparin": 10, "aspirin": 9, "warfarin": 9, "the": 500, "ox": 3}
    vocab = vocabulary("the", "hep", "asp", "warf", "##a", "##rin", "##irin")
    assert choose_entries(words, vocab, 9) == [
        # hep ##a ##rin and warf ##a ##rin have an end in common: 10 + 9 against 2 × 10 for a word.
        Entry("heparin", ("hep", "##a", "##rin"), 20),
        Entry("warfarin", ("warf", "##a", "##rin"), 18),
        Entry("aspirin", ("asp", "##irin"), 9),
        Entry("ox", ("o", "##x"), 3),
    ]


def test_an_end_that_words_have_in_common_is_a_continuation() -> None:
    stems = ("bront", "gastr", "col", "dermat", "nephr", "hepat")
    words = {f"{stem}itis": 5 for stem in stems}
    entries = choose_entries(words, vocabulary(*stems), 2)
    assert entries[0] == Entry("##itis", ("##i", "##t", "##i", "##s"), 6 * 5 * 3)
    # The first of equals in the order of letters.
    assert entries[1] == Entry("brontitis", ("bront", "##i", "##t", "##i", "##s"), 5)


def test_what_an_entry_costs_other_words_counts() -> None:
    # "ab" would save 10, but of "abcd", a ##bcd, it would make ab ##c ##d.
    words = {"ab": 10, "abcd": 8}
    entries = choose_entries(words, vocabulary("##bcd"), 2)
    assert entries == [Entry("abcd", ("a", "##bcd"), 8), Entry("ab", ("a", "##b"), 10)]
    assert choose_entries({**words, "abcde": 99}, vocabulary("##bcd", "##bcde"), 1) == [
        Entry("abcde", ("a", "##bcde"), 99)
    ]


def test_no_word_becomes_unknown() -> None:
    vocab = vocabulary("##bcd")
    del vocab["##d"]
    words = {"ab": 10, "abcd": 8}
    first, second = choose_entries(words, vocab, 2)
    assert (first.text, second.text) == ("abcd", "ab")
    # Were the word itself no candidate, for it is too long, "ab" would have to be left out.
    long = "ab" + "c" * 120 + "d"
    vocab[f"##b{'c' * 120}d"] = len(vocab)
    assert [e.text for e in choose_entries({"ab": 10**9, long: 1}, vocab, 9)] == []


def test_what_is_one_piece_or_unknown_is_left_alone() -> None:
    assert choose_entries({"the": 9, "µg": 9, "a": 9}, vocabulary("the"), 5) == []


def test_only_given_words_begin_an_entry() -> None:
    entries = choose_entries({"aspirin": 4}, vocabulary(), 99)
    assert [entry.text for entry in entries] == ["aspirin"]
    words = {"kalemia": 1, "hyperkalemia": 9, "hypokalemia": 9}
    texts = [entry.text for entry in choose_entries(words, vocabulary("hyper", "hypo"), 99)]
    assert texts[0] == "##kalemia"
    assert all(text.startswith("##") or text in words for text in texts)


@pytest.mark.parametrize("seed", range(5))
def test_each_saves_what_it_says_and_no_word_alone_saves_more(seed: int) -> None:
    rng = random.Random(seed)
    words = {
        "".join(rng.choices("abc", k=rng.randint(1, 7))): rng.randint(1, 50) for _ in range(60)
    }
    vocab = vocabulary("ab", "##bc", "##ca", "##cab", "bc")
    entries = choose_entries(words, vocab, 12)
    shuffled = list(words.items())
    rng.shuffle(shuffled)
    assert choose_entries(dict(shuffled), vocab, 12) == entries
    assert len(entries) == 12
    grown = dict(vocab)
    for entry in entries:
        before = pieces_of(words, grown)
        alone = [
            before - pieces_of(words, {**grown, word: len(grown)})
            for word in words
            if word not in grown
        ]
        # Entries chosen since a word was tried may let it save a little more; seen: 1 of 97.
        assert entry.saved >= 0.95 * max(alone)
        assert list(entry.spelt_by) == WordpieceTokenizer(vocab).split_word(
            entry.text.removeprefix("##"), is_inside=entry.text.startswith("##")
        )
        grown[entry.text] = len(grown)
        assert before - pieces_of(words, grown) == entry.saved
