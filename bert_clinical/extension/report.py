"""extend_report.html: what new entries save, what they cost, and which they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical import __version__
from bert_clinical.extension.rows import Extended
from bert_clinical.extension.selection import Entry
from bert_clinical.extension.settings import ExtensionSettings
from bert_clinical.extension.text_sizes import Change, total
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.flops import training_flops
from data_prep.common import html_report
from data_prep.common.patients import MANY_PATIENTS

REPORT_FILE = "extend_report.html"

_SHOWN_ENTRIES = 100
_SEQUENCE, _PREDICTIONS = 128, 20
_BYTES_OF_A_WEIGHT = 4
_IN_TRAINING = 4
"""A weight, its gradient and Adam's two moments."""


@dataclass(frozen=True)
class Extension:
    """What was made, for the report.

    Attributes:
      config: of the model without the new entries.
      entries: in the order in which they were chosen.
      extended: where they stand.
      changes: what becomes of each text, by its name.
      words: different words of the text.
      used_words: those that stand with as many patients, or in as many documents, as asked.
      used_share: their share of the text's words.
      forgotten: words of the text that were too rare to be kept.
      documents: of the text.
      by_patient: whether patients were counted.
      settings: of the program.
    """

    config: BertConfig
    entries: Sequence[Entry]
    extended: Extended
    changes: Mapping[str, Change]
    words: int
    used_words: int
    used_share: float
    forgotten: int
    documents: int
    by_patient: bool
    settings: ExtensionSettings

    def change(self) -> Change:
        """Returns what becomes of all texts together."""
        return total(self.changes.values())

    def larger_config(self) -> BertConfig:
        """Returns the model's config with the new entries."""
        values = {**self.config.to_dict(), "vocab_size": self.extended.vocab_size}
        return BertConfig.from_dict(values)

    def carriers(self) -> str:
        """Returns what was counted."""
        return "patients" if self.by_patient else "documents"


def write_report(path: Path, extension: Extension) -> None:
    """Writes the report."""
    page = html_report.Report(
        "More entries for a vocabulary", f"Made by bert-clinical {__version__}"
    )
    before, after = extension.change()
    page.add_tiles(
        [
            ("new entries", f"{len(extension.entries):,}"),
            ("entries in all", f"{len(extension.extended.tokens):,}"),
            ("WordPieces a word before", f"{before.per_word():.3f}"),
            ("WordPieces a word after", f"{after.per_word():.3f}"),
            ("WordPieces fewer", f"{1 - after.pieces / before.pieces:.1%}"),
        ]
    )
    _add_texts(page, extension)
    _add_numbers(page, extension)
    _add_entries(page, extension)
    _add_costs(page, extension)
    _add_origin(page, extension)
    page.write(path)


def _add_texts(page: html_report.Report, extension: Extension) -> None:
    rows = [_row(name, change) for name, change in extension.changes.items()]
    if len(rows) > 1:
        rows.append(_row("all", extension.change()))
    heads = [
        "text", "words", "WordPieces a word before", "after", "words in pieces before", "after",
        "[UNK] before", "after",
    ]  # fmt: skip
    page.add_section(
        "What the texts take",
        html_report.table(heads, rows, last_is_total=len(rows) > 1),
        text="Words are those of BERT's basic tokenizer, punctuation marks among them. "
        f"{extension.forgotten:,} words too rare to be kept in memory are left out.",
    )


def _row(name: str, change: Change) -> list[Any]:
    before, after = change
    words = max(before.words, 1)
    return [
        name, before.words, f"{before.per_word():.3f}", f"{after.per_word():.3f}",
        f"{before.split / words:.1%}", f"{after.split / words:.1%}",
        f"{before.unknown / words:.2%}", f"{after.unknown / words:.2%}",
    ]  # fmt: skip


def _add_numbers(page: html_report.Report, extension: Extension) -> None:
    pieces = max(extension.change().before.pieces, 1)
    saved = [0, *accumulate(entry.saved for entry in extension.entries)]
    chart = html_report.line_chart(
        [html_report.Line("saved", range(len(saved)), [100 * n / pieces for n in saved])],
        x_label="new entries",
        y_label="% of all WordPieces",
        caption="What the first so many entries save, in the order of their choice.",
    )
    page.add_section(
        "How many entries are worth it",
        html_report.charts(chart),
        text="Each entry is the one that saves most beside those before it.",
    )


def _add_entries(page: html_report.Report, extension: Extension) -> None:
    asked = extension.settings.min_documents
    title = "The entries that save most"
    if not extension.by_patient or asked < MANY_PATIENTS:
        why = (
            f"--min_documents is {asked}, and what fewer than {MANY_PATIENTS} patients share may "
            "be somebody's name"
            if extension.by_patient
            else "nothing says whose the documents are, and what stands in many may still be the "
            "name of one patient"
        )
        page.add_section(title, text=f"Not shown: {why}. Look through new_entries.csv.")
        return
    rows = [
        [entry.text, " ".join(entry.spelt_by), entry.saved]
        for entry in extension.entries[:_SHOWN_ENTRIES]
    ]
    page.add_section(
        title,
        html_report.table(["entry", "spelt before by", "WordPieces saved"], rows),
        text=f"Each is, or is a part of, a word that stands with at least {asked} patients. Such a "
        "word may still name somebody who works there.",
    )


def _add_costs(page: html_report.Report, extension: Extension) -> None:
    config = extension.config
    more = extension.extended.vocab_size - config.vocab_size
    weights = more * (config.hidden_size + 1)
    size = weights * _BYTES_OF_A_WEIGHT
    before, after = extension.change()
    per_sequence = _operations(extension.larger_config()) / _operations(config)
    share = after.pieces / before.pieces
    rows = [
        ["rows of the embedding", f"{config.vocab_size:,} → {extension.extended.vocab_size:,}"],
        ["more weights", f"{weights:,} ({size / 1e6:,.1f} MB in a file)"],
        ["more memory in training", f"{_IN_TRAINING * size / 1e6:,.1f} MB"],
        [
            "more memory for the logits of an example",
            f"{2 * _PREDICTIONS * more * _BYTES_OF_A_WEIGHT / 1e6:,.2f} MB",
        ],
        ["computing for a sequence", f"{per_sequence:.1%} of before"],
        ["sequences for the same text", f"{share:.1%} of before"],
        ["computing for the same text", f"{per_sequence * share:.1%} of before"],
    ]
    page.add_section(
        "What it costs and what it saves",
        html_report.table(["", ""], rows),
        text=f"In float32, for sequences of {_SEQUENCE} WordPieces with {_PREDICTIONS} "
        "predictions.",
    )


def _operations(config: BertConfig) -> float:
    """Returns what training on a whole sequence takes."""
    return float(training_flops(config, np.ones((1, _SEQUENCE), np.int32), _PREDICTIONS))


def _add_origin(page: html_report.Report, extension: Extension) -> None:
    settings = vars(extension.settings)
    rows = [[f"--{name}", str(value)] for name, value in settings.items()]
    rows += [
        ["documents", f"{extension.documents:,}"],
        ["counted", extension.carriers()],
        ["different words", f"{extension.words:,}"],
        [
            f"words with at least {settings['min_documents']} {extension.carriers()}",
            f"{extension.used_words:,}, which are {extension.used_share:.1%} of the text",
        ],
    ]
    page.add_section(
        "What it follows from",
        html_report.table(["name", "value"], rows),
        text="Only words of the last line have an influence on the entries.",
    )
