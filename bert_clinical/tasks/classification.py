"""One or two sentences and a label: MedNLI's JSON lines and any TSV; knows no TensorFlow."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bert_clinical.tasks.data import (
    MOST_NAMES,
    NO_LABEL,
    Encoded,
    find_data_file,
    numbered_lines,
    require_names,
)
from bert_clinical.wordpieces.inputs import Text, TextEncoder
from data_prep.common.errors import UserError
from data_prep.common.json_files import parse_json_object

_log = logging.getLogger(__name__)

MEDNLI, TSV = "mednli", "tsv"
TASKS = (MEDNLI, TSV)
MEDNLI_LABELS = ("contradiction", "entailment", "neutral")

_FILES = {
    MEDNLI: ("mli_{}_v1.jsonl", "{}.jsonl"),
    TSV: ("{}.tsv",),
}


@dataclass(frozen=True)
class ClassificationExample:
    """A row of the data.

    Attributes:
      guid: its id in the data, or its line's number.
      text_a: the first sentence.
      text_b: the second, None for tasks of one.
      label: None where the data has none.
      line: number of its line, from 1.
    """

    guid: str
    text_a: str = field(repr=False)
    text_b: str | None = field(repr=False)
    label: str | None
    line: int


def data_file(task: str, data_dir: Path, part: str) -> Path:
    """Returns the file of a part, "train", "dev" or "test", of a task's data."""
    return find_data_file(data_dir, [name.format(part) for name in _FILES[task]], part)


def read_examples(task: str, path: Path, *, labelled: bool) -> list[ClassificationExample]:
    """Reads a file of a task.

    Args:
      task: one of `TASKS`.
      path: the file.
      labelled: whether every row must have a label; else all or none.

    Raises:
      UserError: a row is not what it should be, or there is none; says which.
    """
    examples = _read_json_lines(path) if task == MEDNLI else _read_tsv(path, labelled)
    if not examples:
        raise UserError(f"{path}: holds no example; expected one a line")
    bare = next((example for example in examples if example.label is None), None)
    if bare is not None and (labelled or any(example.label for example in examples)):
        raise UserError(f"{path}, line {bare.line}: has no label; expected one on every row")
    return examples


def labels_of(task: str, examples: Sequence[ClassificationExample], path: Path) -> list[str]:
    """Returns a task's labels in the order of their numbers: MedNLI's, or those found, sorted.

    Raises:
      UserError: there are fewer than two, or so many or so long ones that the column holds texts.
    """
    if task == MEDNLI:
        return list(MEDNLI_LABELS)
    labels = {example.label for example in examples if example.label is not None}
    if len(labels) < 2:
        raise UserError(
            f"{path}: the column label holds {len(labels)} different values, expected from 2 to "
            f"{MOST_NAMES:,}"
        )
    require_names(labels, len(examples), f"{path}: the column label", "different values")
    return sorted(labels)


def require_known_labels(
    examples: Sequence[ClassificationExample], labels: Sequence[str], path: Path
) -> None:
    """Raises `UserError` for the first row whose label is none of `labels`."""
    known = set(labels)
    for example in examples:
        if example.label is not None and example.label not in known:
            raise UserError(
                f"{path}, line {example.line}: its label is none of the {len(known)} labels of "
                "this task; expected one of those that the model learns"
            )


def encode_examples(
    examples: Sequence[ClassificationExample],
    encoder: TextEncoder,
    label_ids: Mapping[str, int],
    max_seq_length: int,
) -> list[Encoded]:
    """Returns the examples as inputs; logs how many of them had their ends cut off.

    Args:
      examples: what to encode.
      encoder: makes the inputs.
      label_ids: the number of each label.
      max_seq_length: of an input, in WordPieces.
    """
    cut = 0
    encoded = []
    for example in examples:
        text = Text(example.guid, example.text_a, example.text_b or "")
        window, lost = encoder.cut(text, max_seq_length)
        cut += lost > 0
        label = NO_LABEL if example.label is None else label_ids[example.label]
        encoded.append(Encoded(window.input_ids, window.segment_ids, [label]))
    if cut:
        _log.info(
            "%d of %d examples are longer than %d WordPieces; their ends are cut off "
            "(--max_seq_length).", cut, len(examples), max_seq_length,
        )  # fmt: skip
    return encoded


def _read_json_lines(path: Path) -> list[ClassificationExample]:
    examples = []
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        row = parse_json_object(
            line.encode(),
            f"{path}, line {number}",
            advice="expected one object a line, with sentence1, sentence2 and gold_label",
        )
        for key in ("sentence1", "sentence2"):
            value = row.get(key)
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{path}, line {number}: {key} is missing, empty or no text")
        label = row.get("gold_label")
        if label is not None and label not in MEDNLI_LABELS:
            raise UserError(
                f"{path}, line {number}: gold_label is none of {', '.join(MEDNLI_LABELS)}"
            )
        guid = _id_of(row.get("pairID"), "pairID", number, path)
        examples.append(
            ClassificationExample(guid, row["sentence1"], row["sentence2"], label, number)
        )
    return examples


def _id_of(found: Any, name: str, number: int, path: Path) -> str:
    """Returns a row's id, or its line's number where it has none.

    Raises:
      UserError: it cannot stand in a tab-separated file.
    """
    text = str(number if found is None else found)
    if isinstance(found, dict | list) or re.search(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", text):
        raise UserError(
            f"{path}, line {number}: {name} holds a tab or a line break, or is no single value, "
            "and could not stand in the files of predictions; give the row another id"
        )
    return text


def _columns_of(header: Sequence[str], path: Path, labelled: bool) -> dict[str, int]:
    """Returns the place of each column of a TSV file by its name.

    Raises:
      UserError: one that is needed is not there, or one that is read is there twice.
    """
    names = [name.strip().lower() for name in header]
    columns = {name: place for place, name in enumerate(names)}
    if "sentence1" not in columns and "sentence" in columns:
        columns["sentence1"] = columns["sentence"]
    expected = (
        "expected a header row of tab-separated names, sentence1, label and, for tasks of two "
        "sentences, sentence2"
    )
    for name in ("sentence1", "label") if labelled else ("sentence1",):
        if name not in columns:
            raise UserError(f"{path}, line 1: names no column {name}; {expected}")
    for name in ("id", "sentence", "sentence1", "sentence2", "label"):
        if names.count(name) > 1:
            raise UserError(
                f"{path}, line 1: names {names.count(name)} columns {name}; {expected}, each once"
            )
    return columns


def _read_tsv(path: Path, labelled: bool) -> list[ClassificationExample]:
    lines = numbered_lines(path)
    header = next(lines, (0, ""))[1].split("\t")
    columns = _columns_of(header, path, labelled)
    examples = []
    for number, line in lines:
        if not line.strip():
            continue
        row = line.split("\t")
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(row)} tab-separated fields, expected {len(header)} "
                "as in the header"
            )
        for name in ("sentence1", "sentence2"):
            if name in columns and not row[columns[name]].strip():
                raise UserError(f"{path}, line {number}: {name} is empty")
        label = row[columns["label"]].strip() if "label" in columns else ""
        found = row[columns["id"]].strip() if "id" in columns else ""
        examples.append(
            ClassificationExample(
                guid=_id_of(found or None, "id", number, path),
                text_a=row[columns["sentence1"]],
                text_b=row[columns["sentence2"]] if "sentence2" in columns else None,
                label=label or None,
                line=number,
            )
        )
    return examples
