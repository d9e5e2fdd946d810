"""Sentences by a known spaCy parser, in compiled code: spaCy's own, several times as fast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from spacy.attrs import IDX, IS_PUNCT, IS_SPACE, IS_TITLE, LENGTH

from data_prep.sentences.compiled.bounds import sentence_bounds
from data_prep.sentences.compiled.parser import CompiledParser
from data_prep.sentences.lines import DEIDENTIFIED
from data_prep.sentences.steady_math import TOKEN_KEY

_TOKENS_PER_BATCH = 8_000
_ATTRIBUTES = (*TOKEN_KEY, IDX, LENGTH, IS_TITLE, IS_SPACE, IS_PUNCT)


class CompiledSentences:
    """Tokenizes by a pipeline, and finds the sentences that its parser would.

    Args:
      nlp: the pipeline.

    Raises:
      UnknownParserError: it has a part that the compiled code does not know.
    """

    def __init__(self, nlp: Any) -> None:
        self._nlp = nlp
        self._parser = CompiledParser(nlp)
        self._full_stop = nlp.vocab.strings.add(".")
        self._hyphen = nlp.vocab.strings.add("-")

    def split(self, texts: Sequence[str]) -> list[list[str]]:
        """Returns the sentences of each text, none of them empty, as they stand in it."""
        sentences: list[list[str]] = []
        for first, docs in self._batches(texts):
            sentences += self._split(texts[first : first + len(docs)], docs)
        return sentences

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
        """Yields tokenized texts, and the place of the first of them."""
        docs: list[Any] = []
        tokens = 0
        for end, text in enumerate(texts, 1):
            docs.append(self._nlp.make_doc(text))
            tokens += len(docs[-1])
            if tokens >= _TOKENS_PER_BATCH or end == len(texts):
                yield end - len(docs), docs
                docs, tokens = [], 0

    def _split(self, texts: Sequence[str], docs: Sequence[Any]) -> Iterator[list[str]]:
        text_starts = np.cumsum([0, *map(len, docs)])
        attributes = np.concatenate([doc.to_array(_ATTRIBUTES) for doc in docs])
        tokens = attributes[:, : len(TOKEN_KEY)]
        begins, lengths, is_title, is_space, is_punct = (
            np.ascontiguousarray(column, np.int64) for column in attributes[:, len(TOKEN_KEY) :].T
        )
        starts = self._set_starts(tokens[:, 0], is_title == 1, text_starts)
        spans = [
            (i, *match.span())
            for i, text in enumerate(texts)
            if "[**" in text
            for match in DEIDENTIFIED.finditer(text)
        ]
        bounds, counts = sentence_bounds(
            self._parser.heads(docs, tokens, text_starts, starts),
            text_starts,
            begins,
            begins + lengths,
            (is_space | is_punct) == 1,
            np.array(spans, np.int64).reshape(-1, 3),
        )
        each = iter(bounds.tolist())
        for text, count in zip(texts, counts.tolist(), strict=True):
            yield [text[begin:end] for begin, end in (next(each) for _ in range(count))]

    def _set_starts(
        self, orths: np.ndarray, is_title: np.ndarray, text_starts: np.ndarray
    ) -> np.ndarray:
        """Returns where a sentence has to start: bool [tokens]."""
        starts = np.zeros(len(orths), np.bool_)
        starts[1:] = (orths[:-1] == self._full_stop) & is_title[1:]
        starts[1:] |= (orths[:-1] == self._hyphen) & (orths[1:] != self._hyphen)
        # The original leaves a text's first token and its last as they are.
        starts[text_starts[:-1]] = False
        starts[text_starts[1:] - 1] = False
        return starts
