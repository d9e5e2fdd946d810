"""Ids of WordPieces for the text of a whole archive: what recurs is tokenized once."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from bert_clinical.tokenization import BasicTokenizer, FullTokenizer
from bert_clinical.wordpieces.model_tokenizer import ModelTokenizer


class LineEncoder:
    """Gives the ids of `FullTokenizer` for many lines, fast.

    Cleaning and CJK spacing look at single characters, and everything after them at single words,
    so the pieces of a line are those of its parts between U+0020, one after the other, whatever
    else the line holds. The parts recur, so each is tokenized once and kept.

    Args:
      tokenizer: decides what the pieces are.
      typecode: `array` typecode of the ids, "H" (uint16) or "I" (uint32).
      max_cached: how many parts and how many words are kept, at about 250 bytes each.
    """

    def __init__(
        self, tokenizer: FullTokenizer, *, typecode: str = "I", max_cached: int = 250_000
    ) -> None:
        words = _WordCache(tokenizer, typecode, max_cached)
        self._lookup = PartCache(tokenizer.basic_tokenizer, words, max_cached).__getitem__
        self._with_added_tokens: ModelTokenizer | None = None
        if isinstance(tokenizer, ModelTokenizer) and tokenizer.has_added_tokens:
            self._with_added_tokens = tokenizer
            self._typecode = typecode

    def encode(self, line: str) -> tuple[bytes, int]:
        """Returns the ids of the line's WordPieces as bytes, and its number of words.

        A word is a run of anything but U+0020.
        """
        parts = line.split(" ")
        words = len(parts) - parts.count("")
        tokenizer = self._with_added_tokens
        if tokenizer is None:
            return b"".join(map(self._lookup, parts)), words
        return b"".join(
            array(self._typecode, [tokenizer.vocab[part]]).tobytes()
            if is_added
            else b"".join(map(self._lookup, part.split(" ")))
            for part, is_added in tokenizer.parts(line)
        ), words


class _BoundedCache(dict[str, bytes]):
    """Keeps what was computed for short keys; starts afresh when it is full."""

    _LONGEST_KEPT = 64

    def __init__(self, max_cached: int) -> None:
        super().__init__()
        self._max_cached = max_cached

    def _keep(self, key: str, value: bytes) -> bytes:
        if len(key) <= self._LONGEST_KEPT:
            if len(self) >= self._max_cached:
                self.clear()
            self[key] = value
        return value


class PartCache(_BoundedCache):
    """What stands between two spaces → what is known of its words, one after the other.

    Args:
      basic: finds the words.
      words: a word → what is known of it, as bytes.
      max_cached: how many parts are kept.
    """

    # In printable ASCII, whatever is no letter or digit is punctuation.
    _ascii_words = re.compile(r"[0-9A-Za-z]+|[^0-9A-Za-z]").findall

    def __init__(self, basic: BasicTokenizer, words: Mapping[str, bytes], max_cached: int) -> None:
        super().__init__(max_cached)
        self._basic = basic
        self._words = words

    def __missing__(self, part: str) -> bytes:
        words: Sequence[str]
        if part.isascii() and part.isprintable():
            words = self._ascii_words(part.lower() if self._basic.do_lower_case else part)
        else:
            words = self._basic.tokenize(part)
        return self._keep(part, b"".join(map(self._words.__getitem__, words)))


class _WordCache(_BoundedCache):
    """A word of the basic tokenizer → the ids of its WordPieces."""

    def __init__(self, tokenizer: FullTokenizer, typecode: str, max_cached: int) -> None:
        super().__init__(max_cached)
        self._tokenizer = tokenizer
        self._typecode = typecode

    def __missing__(self, word: str) -> bytes:
        pieces = self._tokenizer.wordpiece_tokenizer.tokenize(word)
        ids: Any = self._tokenizer.convert_tokens_to_ids(pieces)
        return self._keep(word, array(self._typecode, ids).tobytes())
