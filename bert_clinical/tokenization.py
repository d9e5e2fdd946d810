"""Text to WordPieces, exactly as Google's `tokenization.py` makes them.

Plain Python, one text at a time. `wordpieces.line_encoder` gives the same ids some hundred times
as fast, for the text of a whole archive.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from data_prep.common import contents

CLS, SEP, MASK, UNK = "[CLS]", "[SEP]", "[MASK]", "[UNK]"

_K = TypeVar("_K")
_V = TypeVar("_V")

_LOWER_CASED_MODELS = frozenset(
    {
        "uncased_L-24_H-1024_A-16",
        "uncased_L-12_H-768_A-12",
        "multilingual_L-12_H-768_A-12",
        "chinese_L-12_H-768_A-12",
    }
)
_CASED_MODELS = frozenset(
    {"cased_L-12_H-768_A-12", "cased_L-24_H-1024_A-16", "multi_cased_L-12_H-768_A-12"}
)

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_FIRST_IDEOGRAPH = chr(min(first for first, _ in _IDEOGRAPHS))


def validate_case_matches_checkpoint(do_lower_case: bool, init_checkpoint: str | None) -> None:
    """Refuses a casing that contradicts the folder name of one of Google's released models.

    Raises:
      ValueError: the folder's name says that the model has the other casing.

    Source: google-research/bert `tokenization.py`.
    """
    found = re.match(r"^.*?([A-Za-z0-9_-]+)/bert_model.ckpt", init_checkpoint or "")
    if found is None:
        return
    name = found.group(1)
    wanted = True if name in _LOWER_CASED_MODELS else False if name in _CASED_MODELS else None
    if wanted is not None and wanted != do_lower_case:
        kind = "lower-cased" if wanted else "cased"
        raise ValueError(
            f"--do_lower_case={do_lower_case} was given with --init_checkpoint={init_checkpoint}, "
            f"but {name} is a {kind} model; pass --do_lower_case={wanted}"
        )


def convert_to_unicode(text: str | bytes) -> str:
    """Returns `text` as a string; bytes are read as UTF-8 and what is not UTF-8 is left out."""
    if isinstance(text, str):
        return text
    if isinstance(text, bytes):
        return text.decode("utf-8", "ignore")
    raise ValueError(f"found {type(text).__name__}; expected str or bytes")


def printable_text(text: str | bytes) -> str:
    """Returns `text` as a string fit to be printed."""
    return convert_to_unicode(text)


def load_vocab(vocab_file: str | os.PathLike[str]) -> OrderedDict[str, int]:
    """Reads a vocabulary: one token a line, its id the number of the line, from 0.

    Tokens are stripped, and carriage returns dropped wherever they stand. A token that recurs keeps
    its first place in the order and takes the last number, and a blank line is the token "", as in
    the original.

    Raises:
      UserError: a line is not UTF-8, or the file is no text.

    Source: google-research/bert `tokenization.py`.
    Differs: a byte order mark before the first token is left out; the original makes it a part of
      that token, which no text can reach then.
    """
    vocab: OrderedDict[str, int] = OrderedDict()
    path = os.fspath(vocab_file)
    contents.require_text(path, contents.look_at(path), gzip_is_read=False)
    with Path(path).open("rb") as stream:
        for index, line in enumerate(contents.raw_lines(stream, path)):
            text = contents.decode_line(line, path, index + 1).replace("\r", "")
            # Of a last line of carriage returns alone nothing is left: the end of the file.
            if text:
                vocab[text.removeprefix("\ufeff" if index == 0 else "").strip()] = index
    return vocab


def convert_by_vocab(vocab: Mapping[_K, _V], items: Iterable[_K]) -> list[_V]:
    """Looks every item up.

    Raises:
      KeyError: an item is not in `vocab`.
    """
    return [vocab[item] for item in items]


def convert_tokens_to_ids(vocab: Mapping[str, int], tokens: Iterable[str]) -> list[int]:
    """Returns the tokens' ids; a KeyError if one is not in `vocab`."""
    return convert_by_vocab(vocab, tokens)


def convert_ids_to_tokens(inv_vocab: Mapping[int, str], ids: Iterable[int]) -> list[str]:
    """Returns the ids' tokens; a KeyError if one is not in `inv_vocab`."""
    return convert_by_vocab(inv_vocab, ids)


def whitespace_tokenize(text: str) -> list[str]:
    """Splits at runs of white space."""
    return text.split()


class FullTokenizer:
    """Text to WordPieces: `BasicTokenizer`, then `WordpieceTokenizer`.

    Args:
      vocab_file: one token a line.
      do_lower_case: lower-cases and strips accents; right for an uncased vocabulary only.

    Source: google-research/bert `tokenization.py`.
    """

    def __init__(self, vocab_file: str | os.PathLike[str], do_lower_case: bool = True) -> None:
        self.vocab = load_vocab(vocab_file)
        self.inv_vocab = {index: token for token, index in self.vocab.items()}
        self.basic_tokenizer = BasicTokenizer(do_lower_case=do_lower_case)
        self.wordpiece_tokenizer = WordpieceTokenizer(vocab=self.vocab)

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the WordPieces of `text`."""
        return [
            piece
            for word in self.basic_tokenizer.tokenize(text)
            for piece in self.wordpiece_tokenizer.tokenize(word)
        ]

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Returns the tokens' ids; a KeyError if one is not in the vocabulary."""
        return convert_by_vocab(self.vocab, tokens)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the ids' tokens; a KeyError if one is not in the vocabulary."""
        return convert_by_vocab(self.inv_vocab, ids)


class BasicTokenizer:
    """Splits text into words and punctuation characters, and lower-cases it if told to.

    Args:
      do_lower_case: lower-cases.
      strip_accents: decomposes (NFD) and drops combining marks; as `do_lower_case` where None.
      tokenize_chinese_chars: makes each CJK ideograph a word.

    Source: google-research/bert `tokenization.py`.
    Differs: the original has the first argument alone; transformers adds the other two.
    """

    def __init__(
        self,
        do_lower_case: bool = True,
        *,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ) -> None:
        self.do_lower_case = do_lower_case
        self.strip_accents = do_lower_case if strip_accents is None else strip_accents
        self.tokenize_chinese_chars = tokenize_chinese_chars

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the words and punctuation characters of `text`."""
        words: list[str] = []
        for word in self._clean(text).split():
            word = self._folded(word)
            words += "".join(f" {c} " if _is_punctuation(c) else c for c in word).split()
        return words

    def normalize(self, text: str) -> str:
        """Returns `text` as it is before it is split: cleaned, lower-cased, without accents."""
        return self._folded(self._clean(text))

    def _clean(self, text: str | bytes) -> str:
        cleaned = "".join(map(_cleaned, convert_to_unicode(text)))
        if self.tokenize_chinese_chars and not cleaned.isascii():
            cleaned = "".join(f" {c} " if _is_ideograph(c) else c for c in cleaned)
        return cleaned

    def _folded(self, text: str) -> str:
        if self.do_lower_case:
            text = text.lower()
        return _without_accents(text) if self.strip_accents else text


class WordpieceTokenizer:
    """Splits words into the longest pieces of the vocabulary, from the left.

    Args:
      vocab: holds the pieces; those inside a word begin with `##`.
      unk_token: stands for a word that cannot be split, or is too long.
      max_input_chars_per_word: the longest word that is split, in characters.

    Source: google-research/bert `tokenization.py`.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        unk_token: str = UNK,
        max_input_chars_per_word: int = 200,
    ) -> None:
        self.vocab = vocab
        self.unk_token = unk_token
        self.max_input_chars_per_word = max_input_chars_per_word

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the pieces of each white-space separated word of `text`."""
        pieces: list[str] = []
        for word in whitespace_tokenize(convert_to_unicode(text)):
            pieces += self.split_word(word) or [self.unk_token]
        return pieces

    def split_word(self, word: str, *, is_inside: bool = False) -> list[str] | None:
        """Returns the pieces of a word, None if it cannot be split.

        Args:
          word: without white space.
          is_inside: whether it is the rest of a word, of which something stands before it.
        """
        if len(word) > self.max_input_chars_per_word:
            return None
        pieces: list[str] = []
        start, mark = 0, "##" if is_inside else ""
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = mark + word[start:end]
                if piece in self.vocab:
                    break
            else:
                return None
            pieces.append(piece)
            start, mark = end, "##"
        return pieces


def _cleaned(char: str) -> str:
    """Returns what the cleaned text has in place of a character."""
    if " " < char <= "~":
        return char
    code = ord(char)
    if code == 0 or code == 0xFFFD or _is_control(char):
        return ""
    return " " if _is_whitespace(char) else char


def _is_ideograph(char: str) -> bool:
    return char >= _FIRST_IDEOGRAPH and any(
        first <= ord(char) <= last for first, last in _IDEOGRAPHS
    )


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


def _is_whitespace(char: str) -> bool:
    """Tab, newline, carriage return and Unicode's spaces (Zs)."""
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def _is_control(char: str) -> bool:
    """Unicode's control and format characters (Cc, Cf) but tab, newline and carriage return."""
    return char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")


def _is_punctuation(char: str) -> bool:
    """ASCII that is no letter, digit, space or control, and Unicode's punctuation (P)."""
    if char.isascii():
        return char.isprintable() and char != " " and not char.isalnum()
    return unicodedata.category(char).startswith("P")
