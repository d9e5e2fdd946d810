"""Sentences by a spaCy pipeline's own code, text by text: for models of any kind.

Given a batch, a pipeline's parts may round a text's numbers otherwise than given that text alone:
spaCy's parser scores the states of all texts in one product, transformers pad texts to one length.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from spacy.attrs import IDX, LENGTH, ORTH, SENT_START
from spacy.vectors import Vectors

from data_prep.sentences.lines import DEIDENTIFIED
from data_prep.sentences.steady_math import use_steady_ops


class PipelineSentences:
    """Runs a pipeline over each text by itself.

    Args:
      nlp: the pipeline; its models' arithmetic is replaced by one that is the same anywhere.
    """

    def __init__(self, nlp: Any) -> None:
        self._nlp = nlp
        for _, component in nlp.pipeline:
            if hasattr(component, "model"):
                use_steady_ops(component.model)
        # What finds the sentences.
        self._finder = "parser" if "parser" in nlp.pipe_names else "senter"
        strings = nlp.vocab.strings
        self._full_stop = strings.add(".")
        self._hyphen = strings.add("-")
        # Set as `_vectors`: setting `vectors` would add all of their strings again each time.
        self._no_vectors = Vectors(strings=strings)

    def split(self, texts: Sequence[str]) -> list[list[str]]:
        """Returns the sentences of each text, as they stand in it."""
        docs = [self._parsed(text) for text in texts]
        with self._vectors_aside():
            return [_sentences(doc) for doc in docs]

    @contextlib.contextmanager
    def _vectors_aside(self) -> Iterator[None]:
        """Hides the vectors: merging would add one for each de-identified span, for ever."""
        vocab = self._nlp.vocab
        vectors = vocab._vectors
        vocab._vectors = self._no_vectors
        try:
            yield
        finally:
            vocab._vectors = vectors

    def _parsed(self, text: str) -> Any:
        doc = self._nlp.make_doc(text)
        if len(doc) > 1:
            for name, component in self._nlp.pipeline:
                if name == self._finder:
                    self._start_sentences(doc)
                doc = component(doc)
        return doc

    def _start_sentences(self, doc: Any) -> None:
        orths = doc.to_array(ORTH)[:-2]
        for i in np.flatnonzero((orths == self._full_stop) | (orths == self._hyphen)).tolist():
            following = doc[i + 1]
            if following.is_title if orths[i] == self._full_stop else following.text != "-":
                following.is_sent_start = True


def _sentences(doc: Any) -> list[str]:
    """Returns the sentences of a parsed document, after merging its de-identified spans."""
    text = doc.text
    if "[**" in text and len(doc) > 1:
        doc.tensor = np.zeros((0, 0), np.float32)
        for match in DEIDENTIFIED.finditer(text):
            span = doc.char_span(*match.span())
            if span is not None and len(span) > 1:
                with doc.retokenize() as retokenizer:
                    retokenizer.merge(span)
    if not len(doc):
        return []
    starts_sentence, offset, length = doc.to_array([SENT_START, IDX, LENGTH]).T.astype(np.int64)
    starts = np.flatnonzero(starts_sentence == 1)
    starts = np.concatenate([[0], starts[starts > 0]])
    lasts = np.append(starts[1:], len(doc)) - 1
    ends = offset[lasts] + length[lasts]
    return [text[i:j] for i, j in zip(offset[starts].tolist(), ends.tolist(), strict=True)]
