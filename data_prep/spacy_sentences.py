"""Sentences of clinical text as the original finds them: by a spaCy model's parser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from data_prep.program import UserError
from data_prep.sentence_splitting import sentence_lines

_DEIDENTIFIED = re.compile(r"\[\*\*.{0,15}.*?\*\*\]")


def _start_sentences(doc: Any) -> Any:
    for i, token in enumerate(doc[:-2]):
        following = doc[i + 1]
        if (token.text == "." and following.is_title) or (
            token.text == "-" and following.text != "-"
        ):
            following.is_sent_start = True
    return doc


class SpacySplitter:
    """Splits sections by a spaCy model's parser."""

    def __init__(self, model: str) -> None:
        import spacy
        from spacy.language import Language

        Language.component("bert_clinical_sentence_starts", func=_start_sentences)
        try:
            self._nlp = spacy.load(
                model, exclude=["tagger", "ner", "attribute_ruler", "lemmatizer"]
            )
        except OSError:
            raise UserError(f"--spacy_model: the spaCy model {model} is not installed") from None
        self._nlp.add_pipe("bert_clinical_sentence_starts", before="parser")

    @property
    def description(self) -> dict[str, str]:
        """Names and versions of what decides the sentences, for a manifest."""
        import spacy

        meta = self._nlp.meta
        return {
            "sentence_splitter": "spacy",
            "spacy_model": f"{meta['lang']}_{meta['name']}",
            "spacy_model_version": meta["version"],
            "spacy_version": spacy.__version__,
        }

    def split(self, sections: Sequence[str]) -> list[list[str]]:
        """Returns each section's sentences as they are written, one a line."""
        return [self._sentences(doc) for doc in self._nlp.pipe(sections)]

    def _sentences(self, doc: Any) -> list[str]:
        spans = (doc.char_span(*match.span()) for match in _DEIDENTIFIED.finditer(doc.text))
        with doc.retokenize() as retokenizer:
            for span in spans:
                if span is not None:
                    retokenizer.merge(span)
        return sentence_lines([sentence.text for sentence in doc.sents])
