"""The text that a model is trained on: one sentence a line, a blank line after each note."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from data_prep import sectioning
from data_prep.common.patients import UNKNOWN
from data_prep.formatting.statistics import TextStatistics
from data_prep.formatting.text_files import (
    HELD_OUT_SUFFIX,
    Document,
    file_stem,
    shard_key,
    to_document,
)
from data_prep.sentences.splitter import load_splitter


class NoteToFormat(NamedTuple):
    """A note on its way to a text file; `patient` is a hash, see `patients`."""

    category: str
    held_out: bool
    text: str
    patient: int = UNKNOWN


class FormattedBatch(NamedTuple):
    """A batch of notes as text.

    Attributes:
      content: UTF-8 lines of JSON: the batch's `TextStatistics`, then a `Document` for each note
        that gave text.
      notes: notes in the batch, whether they gave text or not.
      words: words written.
    """

    content: bytes
    notes: int
    words: int


class NoteFormatter:
    """Makes text of batches of notes: sections by rules, then sentences.

    Args:
      section_rules: "fixed" or "published".
      sentence_splitter: "spacy" or "rules".
      spacy_model: an installed package or a folder; for "spacy" only.

    Raises:
      UserError: the spaCy model cannot be loaded.
    """

    def __init__(self, *, section_rules: str, sentence_splitter: str, spacy_model: str) -> None:
        self._section_rules = section_rules
        self._splitter = load_splitter(
            sentence_splitter, spacy_model, as_published=section_rules == "published"
        )
        self.description: dict[str, str] = self._splitter.description

    def __call__(self, notes: Sequence[NoteToFormat]) -> FormattedBatch:
        """Formats a batch; the text of a note does not depend on the others."""
        statistics, documents = self.format(notes)
        parts = [statistics.to_json(), *documents]
        content = "".join(json.dumps(part, ensure_ascii=False) + "\n" for part in parts)
        return FormattedBatch(content.encode(), len(notes), statistics.total()["words"])

    def format(self, notes: Sequence[NoteToFormat]) -> tuple[TextStatistics, list[Document]]:
        """Returns what is counted about a batch, and the documents of the notes that gave text."""
        statistics = TextStatistics()
        sections_of: list[list[str] | None] = []
        for note in notes:
            try:
                sections_of.append(sectioning.split_sections(note.text, self._section_rules))
            except sectioning.SectioningError:
                # The original program loses these notes as well, but without a word.
                statistics.drop_note(note.category, "sectioning failed")
                sections_of.append(None)
        split = iter(self._splitter.split([s for sections in sections_of for s in sections or ()]))
        documents = []
        for note, sections in zip(notes, sections_of, strict=True):
            if sections is None:
                continue
            lines = [next(split) for _ in sections]
            if not any(lines):
                statistics.drop_note(note.category, "no sentence")
                continue
            statistics.add_note(note.category, note.held_out, sections, lines, note.patient)
            stem = file_stem(note.category) + HELD_OUT_SUFFIX * note.held_out
            text = to_document(lines)
            documents.append(Document(stem, shard_key(note.text), text, note.patient))
        return statistics, documents
