"""Synthetic clinical notes in the columns of MIMIC-III's NOTEEVENTS, for demonstrations and tests.

No patient stands behind them. Diagnoses come with their own symptoms, findings, results and drugs,
so that a model has something to learn; patients have several notes, some copied forward and some
entered in error; names and dates are de-identified as in MIMIC-III. The same number and seed give
the same notes everywhere.

Example:
  python -m data_prep.sample_notes --output_file=notes.csv --num_notes=500
"""

from __future__ import annotations

import csv
import logging
import os
import random
from collections.abc import Callable, Iterator

from absl import flags

from data_prep.common import program
from data_prep.common.atomic_files import atomic_write
from data_prep.common.paths import prepare_file
from data_prep.synthetic import text as sample_text
from data_prep.synthetic.text import Patient, Writer

_log = logging.getLogger(__name__)

COLUMNS = (
    "ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "STORETIME", "CATEGORY",
    "DESCRIPTION", "CGID", "ISERROR", "TEXT",
)  # fmt: skip


def generate_notes(count: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Yields rows of NOTEEVENTS by column name, every value as it stands in the CSV.

    Four in five are discharge summaries, the others `Nursing/other`, `Physician ` (with the space
    that MIMIC-III has there) and `Radiology`.

    Args:
      count: how many.
      seed: the same one gives the same notes; a larger count begins with those of a smaller.

    Raises:
      ValueError: the count is negative.
    """
    if count < 0:
        raise ValueError(f"the number of notes is {count}; expected zero or more")
    writer = Writer(random.Random(seed))
    row_id = 0
    subject_id = 0
    while row_id < count:
        subject_id += 1
        patient = Patient(writer, subject_id)
        for _ in range(min(writer.between(1, 5), count - row_id)):
            row_id += 1
            yield _row(writer, patient, row_id)


def write_sample_notes(path: str | os.PathLike[str], count: int, seed: int = 0) -> None:
    """Writes a CSV of `count` synthetic notes, complete or not at all."""
    with atomic_write(path, "w") as stream:
        rows = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        rows.writeheader()
        rows.writerows(generate_notes(count, seed))


def _row(writer: Writer, patient: Patient, row_id: int) -> dict[str, str]:
    category, description, write = _kind(writer)
    if category == "Discharge summary" and patient.last_summary and writer.chance(0.4):
        if writer.chance(0.3):
            description, text = "Addendum", sample_text.addendum(writer, patient)
        else:
            text = sample_text.copied_forward(writer, patient)
    else:
        text = write(writer, patient)
    date = f"{patient.year}-{writer.between(1, 12):02}-{writer.between(1, 28):02}"
    is_summary = category == "Discharge summary"
    time = "" if is_summary else f"{date} {writer.below(24):02}:{writer.below(60):02}:00"
    values = (
        str(row_id), str(patient.subject_id), str(patient.hadm_id), date, time, time, category,
        description, "" if is_summary else str(writer.between(14_000, 21_000)),
        "1" if writer.chance(0.01) else "", text,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _kind(writer: Writer) -> tuple[str, str, Callable[[Writer, Patient], str]]:
    draw = writer.below(100)
    if draw < 80:
        return "Discharge summary", "Report", sample_text.discharge_summary
    if draw < 88:
        return "Nursing/other", "Report", sample_text.nursing_note
    if draw < 94:
        return "Physician ", "Physician Resident Progress Note", sample_text.progress_note
    return "Radiology", "CHEST (PORTABLE AP)", sample_text.radiology_report


def define_flags(values: program.ProgramFlags) -> None:
    """Defines the program's flags."""
    flags.DEFINE_string("output_file", None, "The CSV to write.", flag_values=values)
    flags.DEFINE_integer(
        "num_notes", 200, "How many notes to write.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "random_seed", 12345, "The same seed gives the same notes.", flag_values=values
    )
    values.require("output_file")


def main(values: program.ProgramFlags) -> None:
    """Runs the program."""
    output = prepare_file(values.output_file, "output_file")
    write_sample_notes(output, values.num_notes, values.random_seed)
    _log.info("%s: %d synthetic notes", values.output_file, values.num_notes)


def cli() -> None:
    """Runs the program on the command line's arguments."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
