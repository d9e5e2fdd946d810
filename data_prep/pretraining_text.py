"""The text that a model is trained on: one sentence a line, a blank line after each note."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_prep import sectioning, sentence_splitting
from data_prep.text_statistics import TextStatistics

HELD_OUT_SUFFIX = ".held_out"

_NOT_IN_FILE_NAMES = re.compile(r"[\W_]+")


class NoteToFormat(NamedTuple):
    """A note on its way to a text file."""

    category: str
    held_out: bool
    text: str


class FormattedBatch(NamedTuple):
    """A batch of notes as text.

    Attributes:
      content: UTF-8 lines of JSON: the batch's `TextStatistics`, then for each note that gave text
        the stem of its file and its document.
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
        self._splitter = sentence_splitting.load_splitter(sentence_splitter, spacy_model)
        self.description: dict[str, str] = self._splitter.description

    def __call__(self, notes: Sequence[NoteToFormat]) -> FormattedBatch:
        """Formats a batch; the text of a note does not depend on the others."""
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
        words = 0
        for note, sections in zip(notes, sections_of, strict=True):
            if sections is None:
                continue
            lines = [next(split) for _ in sections]
            if not any(lines):
                statistics.drop_note(note.category, "no sentence")
                continue
            words += statistics.add_note(note.category, note.held_out, sections, lines)
            stem = file_stem(note.category) + HELD_OUT_SUFFIX * note.held_out
            documents.append([stem, to_document(lines)])
        parts = [statistics.to_json(), *documents]
        content = "".join(json.dumps(part, ensure_ascii=False) + "\n" for part in parts)
        return FormattedBatch(content.encode(), len(notes), words)


def to_document(lines_of_sections: Iterable[Iterable[str]]) -> str:
    """Returns a note as it stands in the file, with the blank line that ends it."""
    lines = [line for lines in lines_of_sections for line in lines]
    return "\n".join([*lines, "", ""])


def file_stem(category: str) -> str:
    """Returns the start of a category's file name: `Nursing/other` becomes `nursing_other`."""
    return _NOT_IN_FILE_NAMES.sub("_", category.strip().lower())
