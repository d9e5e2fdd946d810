"""Turns clinical notes into pretraining text: one sentence a line, a blank line after each note.

Reads files of notes or a table of a database, takes the notes of the chosen categories, splits each
into sections by rules and these into sentences. Writes one text per category, such as
discharge_summary.txt, manifest.json, which says what was made of what, and data_report.html.

Run again after an interruption with the same flags, it goes on from where it was.

Example:
  python -m data_prep.format_notes --input_file=NOTEEVENTS.csv.gz --output_dir=text \\
    --held_out_fraction=0.05 --num_workers=8
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from absl import flags

from data_prep.beam import flags as beam_flags
from data_prep.canaries.canary import CanarySettings
from data_prep.common import program, settings_flags
from data_prep.common.errors import UsageError
from data_prep.common.input_files import find_local_files
from data_prep.common.paths import prepare_file
from data_prep.common.program import ProgramFlags
from data_prep.formatting.run import format_notes
from data_prep.formatting.settings import FormatSettings
from data_prep.notes.rows import ColumnNames


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags."""
    string = functools.partial(flags.DEFINE_string, flag_values=values)
    define = functools.partial(settings_flags.define, values, FormatSettings)
    values.section("Where the notes are")
    string(
        "input_file",
        None,
        "Notes: paths, globs or folders, comma-separated; .csv, .csv.gz or .parquet with the "
        "columns of MIMIC-III's NOTEEVENTS or of MIMIC-IV-Note, or with those that the column "
        "flags name.",
    )
    string(
        "input_sql",
        None,
        "In place of --input_file: a database as an SQLAlchemy URL, such as "
        "postgresql+psycopg://user@host/mimic, sqlite:///notes.db or duckdb:///notes.duckdb.",
    )
    string("sql_table", None, "The table of --input_sql, such as mimiciii.noteevents.")
    string("text_column", None, "The column of the text. Unless given: text.")
    string(
        "category_column", None, "The column of the category. Unless given: category, note_type."
    )
    string("id_column", None, "The column of the note id. Unless given: row_id, note_id.")
    string("subject_column", None, "The column of the patient. Unless given: subject_id.")
    define("skip_bad_rows")

    values.section("Which notes")
    define("category", "deduplicate", "near_duplicate_threshold", "held_out_fraction")

    values.section("How they are split")
    define("section_rules", "sentence_splitter", "spacy_model")

    values.section("Output")
    string("output_dir", None, "The folder of the output; made if it does not exist.")
    define("num_shards", "patients_files")
    string(
        "plant_canaries",
        None,
        "Plant canaries in the training text, as plant_canaries does, and write them to this file, "
        "for audit_memorization.",
    )
    settings_flags.define(values, CanarySettings)
    flags.DEFINE_integer(
        "num_workers",
        1,
        "Processes. Their number changes nothing in the output.",
        lower_bound=1,
        upper_bound=1024,
        flag_values=values,
    )
    beam_flags.define(values)
    values.require("output_dir")


def main(values: ProgramFlags) -> None:
    """Runs the program on parsed flags."""
    if (values.input_file is None) == (values.input_sql is None):
        raise UsageError("expected one of --input_file and --input_sql, and not both")
    if (values.input_sql is None) != (values.sql_table is None):
        raise UsageError("expected --input_sql and --sql_table together, or neither")
    if not all(name.strip() for name in values.category.split(",")):
        raise UsageError("--category: found an empty name; expected names between commas, or 'all'")
    if values.sentence_splitter == "spacy" and not values.spacy_model:
        raise UsageError("--spacy_model: found an empty name; expected a model")
    beam_flags.require_no_stray_options(values)
    if values.runner is not None:
        _require_what_runners_do(values)
    columns = ColumnNames(
        text=values.text_column,
        category=values.category_column,
        row_id=values.id_column,
        subject_id=values.subject_column,
        needs_subject=values.held_out_fraction > 0 or values.patients_files,
    )
    canaries = None
    if values.plant_canaries is not None:
        canaries = settings_flags.read(values, CanarySettings)
    settings = settings_flags.read(values, FormatSettings, columns=columns, canaries=canaries)
    canaries_file = _canaries_file(values)
    if values.runner is not None:
        from data_prep.formatting.beam import run as beam_format_notes

        beam_format_notes.format_notes(
            input_patterns=values.input_file,
            output_dir=values.output_dir,
            settings=settings,
            canaries_file=canaries_file,
            runner=values.runner,
            pipeline_options=values.pipeline_options,
        )
        return
    format_notes(
        input_files=(
            find_local_files(values.input_file, "input_file", keep_empty=True, once=True)
            if values.input_file is not None
            else ()
        ),
        input_sql=values.input_sql,
        sql_table=values.sql_table,
        output_dir=Path(values.output_dir),
        settings=settings,
        canaries_file=canaries_file,
        num_workers=values.num_workers,
    )


def _canaries_file(values: ProgramFlags) -> Path | None:
    """Returns where the canaries go, None where none are to be planted.

    Raises:
      UsageError: flags of canaries are given without the one that asks for them.
    """
    if values.plant_canaries is None:
        for field in dataclasses.fields(CanarySettings):
            if values[field.name].present:
                raise UsageError(
                    f"--{field.name} belongs to canaries; give --plant_canaries, or leave it out"
                )
        return None
    return prepare_file(values.plant_canaries, "plant_canaries")


def _require_what_runners_do(values: ProgramFlags) -> None:
    beam_flags.require_valid(values)
    if values.input_sql is not None:
        raise UsageError(
            "--runner reads files, not --input_sql; export the table to Parquet or CSV, or leave "
            "out --runner"
        )
    if values.patients_files:
        raise UsageError("--patients_files is not made by --runner; leave out one of them")


def cli() -> None:
    """The program's entry point."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
