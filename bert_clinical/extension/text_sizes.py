"""How many WordPieces a text has, with and without the new entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from bert_clinical.extension.word_counts import WordCounts
from bert_clinical.tokenization import WordpieceTokenizer


class TextSize(NamedTuple):
    """What a text is to a vocabulary.

    Attributes:
      words: of the text, punctuation marks among them.
      pieces: WordPieces.
      split: words of more than one.
      unknown: words that are [UNK].
    """

    words: int
    pieces: int
    split: int
    unknown: int

    def per_word(self) -> float:
        """Returns the WordPieces a word."""
        return self.pieces / max(self.words, 1)


class Change(NamedTuple):
    """A text before and after."""

    before: TextSize
    after: TextSize


def measure(
    counts: WordCounts, old: Mapping[str, int], new: Mapping[str, int]
) -> dict[str, Change]:
    """Returns what becomes of each text, by its name; what was forgotten is left out.

    Args:
      counts: of the texts' words.
      old: the vocabulary without the new entries.
      new: the one with them.
    """
    before = _pieces_of(counts.words, old)
    after = before.copy()
    # A word that is one WordPiece stays one.
    (more,) = np.nonzero(before != 1)
    after[more] = _pieces_of((counts.words[number] for number in more), new)
    return {
        name: Change(_size(before[numbers], found), _size(after[numbers], found))
        for name, (numbers, found) in counts.texts.items()
    }


def total(changes: Iterable[Change]) -> Change:
    """Returns what becomes of all texts together."""
    befores, afters = zip(*changes, strict=True)
    return Change(*(TextSize(*map(sum, zip(*sizes, strict=True))) for sizes in (befores, afters)))


def _pieces_of(words: Iterable[str], vocab: Mapping[str, int]) -> np.ndarray:
    """Returns uint8 [V], how many WordPieces each word has, 0 for [UNK]."""
    split = WordpieceTokenizer(vocab).split_word
    return np.fromiter((len(split(word) or ()) for word in words), np.uint8)


def _size(pieces: np.ndarray, counts: np.ndarray) -> TextSize:
    words = int(counts.sum())
    unknown = int(counts[pieces == 0].sum())
    known = int((counts * pieces).sum())
    return TextSize(words, known + unknown, int(counts[pieces > 1].sum()), unknown)
