"""Sentences in the original's way: one call of a spaCy pipeline for each section.

What ours is held against, in tests and benchmarks.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import spacy


def plain_splitter(model: str) -> Callable[[str], list[str]]:
    """Returns a function from a section to its sentences, as the original writes them.

    Source: clinicalBERT, `lm_pretraining/format_mimic_for_BERT.py`, which loads a model without
      tagger and named entities.
    """
    warnings.simplefilter("ignore")
    nlp = spacy.load(model, disable=["tagger", "ner"])
    nlp.add_pipe("plain_sentence_starts", before="parser")

    def split(section: str) -> list[str]:
        doc = nlp(section)
        for match in re.finditer(r"\[\*\*.{0,15}.*?\*\*\]", section):
            span = doc.char_span(*match.span())
            if span is not None:
                with doc.retokenize() as retokenizer:
                    retokenizer.merge(span)
        return [s.text.replace("\n", " ") for s in doc.sents if s.text]

    return split


@spacy.Language.component("plain_sentence_starts")
def _start_sentences(doc: Any) -> Any:
    for i, token in enumerate(doc[:-2]):
        if token.text == "." and doc[i + 1].is_title:
            doc[i + 1].is_sent_start = True
        if token.text == "-" and doc[i + 1].text != "-":
            doc[i + 1].is_sent_start = True
    return doc
