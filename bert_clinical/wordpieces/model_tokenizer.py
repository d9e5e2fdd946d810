"""The tokenizer of a model with rules of its own, as transformers folders can have them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bert_clinical.tokenization import (
    BasicTokenizer,
    FullTokenizer,
    WordpieceTokenizer,
    convert_to_unicode,
)


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text before the text is split into words.

    Attributes:
      content: as it stands in the text.
      normalized: looked for in the cleaned and, where the model says so, lower-cased text.
      single_word: found only where no letter, digit or underscore touches it.
      special: transformers calls it special; it makes no difference here.
      outside: no WordPiece of the vocabulary, so that words are not split by it.
    """

    content: str
    normalized: bool = True
    single_word: bool = False
    special: bool = False
    outside: bool = False


@dataclass(frozen=True)
class TokenizerRules:
    """What a tokenizer does besides splitting words by its vocabulary.

    Attributes:
      do_lower_case: lower-cases.
      strip_accents: as `do_lower_case` where None, which is Google's rule.
      tokenize_chinese_chars: makes each CJK ideograph a word, as Google's does.
      added_tokens: Google's has none.
    """

    do_lower_case: bool
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    added_tokens: tuple[AddedToken, ...] = ()

    @property
    def strips_accents(self) -> bool:
        """Tells whether accents are dropped."""
        return self.do_lower_case if self.strip_accents is None else self.strip_accents


class ModelTokenizer(FullTokenizer):
    """`FullTokenizer` of a vocabulary in memory, under a model's rules.

    [CLS], [SEP], [MASK], [PAD] and [UNK] are not recognised in a text, as in Google's.

    Args:
      tokens: in the order of their ids.
      rules: the model's.
    """

    def __init__(self, tokens: Sequence[str], rules: TokenizerRules) -> None:
        # Not super's: it reads a file.
        self.vocab = OrderedDict((token, index) for index, token in enumerate(tokens))
        self.inv_vocab = dict(enumerate(tokens))
        self.basic_tokenizer = BasicTokenizer(
            rules.do_lower_case,
            strip_accents=rules.strip_accents,
            tokenize_chinese_chars=rules.tokenize_chinese_chars,
        )
        outside = {token.content for token in rules.added_tokens if token.outside}
        self.wordpiece_tokenizer = WordpieceTokenizer(
            {token: index for token, index in self.vocab.items() if token not in outside}
        )
        self._as_written = _Finder({t.content: t for t in rules.added_tokens if not t.normalized})
        self._normalized = _Finder(normalized_contents(rules, self.basic_tokenizer))
        self.has_added_tokens = bool(rules.added_tokens)

    def tokenize(self, text: str | bytes) -> list[str]:
        """Returns the WordPieces of `text`, added tokens among them."""
        pieces = []
        for part, is_added in self.parts(convert_to_unicode(text)):
            pieces += [part] if is_added else super().tokenize(part)
        return pieces

    def parts(self, text: str) -> Iterator[tuple[str, bool]]:
        """Yields what a text consists of: added tokens, marked by True, and what is between."""
        for part, is_added in self._as_written.split(text):
            if is_added or not self._normalized:
                yield part, is_added
            else:
                yield from self._normalized.split(self.basic_tokenizer.normalize(part))


def normalized_contents(rules: TokenizerRules, basic: BasicTokenizer) -> dict[str, AddedToken]:
    """Returns the added tokens that are looked for in normalized text, by what they look like."""
    return {basic.normalize(t.content): t for t in rules.added_tokens if t.normalized}


def alternatives(patterns: Mapping[str, AddedToken]) -> str:
    """Returns a regular expression that finds the leftmost pattern, of several the longest."""
    return "|".join(map(re.escape, sorted(patterns, key=len, reverse=True)))


class _Finder:
    """Finds tokens by what they look like; false where there are none."""

    def __init__(self, patterns: Mapping[str, AddedToken]) -> None:
        self._patterns = patterns
        self._matches = re.compile(alternatives(patterns)).finditer

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """Yields tokens, marked by True, and what is between them.

        Source: tokenizers `added_vocabulary.rs`.
        """
        end = 0
        if self._patterns:
            for match in self._matches(text):
                token = self._patterns[match[0]]
                if token.single_word and _touches_a_word(text, match.start(), match.end()):
                    continue
                if end < match.start():
                    yield text[end : match.start()], False
                yield token.content, True
                end = match.end()
        if end < len(text):
            yield text[end:], False


def _touches_a_word(text: str, start: int, end: int) -> bool:
    return any(c.isalnum() or c == "_" for c in (text[start - 1 : start] + text[end : end + 1]))
