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

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import flags

from data_prep.beam import flags as beam_flags
from data_prep.common import atomic_files, program
from data_prep.common import files as beam_files
from data_prep.common.errors import UsageError
from data_prep.common.paths import expand_patterns
from data_prep.common.program import ProgramFlags
from data_prep.common.progress import Progress
from data_prep.common.workers import Workers
from data_prep.formatting import manifest
from data_prep.formatting import work_folder as work_shards
from data_prep.formatting.formatter import FormattedBatch, NoteToFormat
from data_prep.formatting.selection import Survey, describe_categories
from data_prep.formatting.settings import FormatSettings
from data_prep.formatting.work_folder import WorkFolder, WorkShard
from data_prep.notes import csv_source as note_reader
from data_prep.notes import sources as note_sources

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags."""
    string = functools.partial(flags.DEFINE_string, flag_values=values)
    values.section("Where the notes are")
    string(
        "input_file",
        None,
        "Notes: paths or globs, comma-separated; .csv, .csv.gz or .parquet with the columns of "
        "MIMIC-III's NOTEEVENTS or of MIMIC-IV-Note, or with those that the column flags name.",
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
    flags.DEFINE_boolean(
        "skip_bad_rows",
        False,
        "Count rows that cannot be read in the manifest and go on, rather than end with an error.",
        flag_values=values,
    )

    values.section("Which notes")
    string(
        "category",
        "Discharge summary",
        "Categories, comma-separated, or 'all'; compared stripped and without regard to case. "
        "With 'all', values that do not look like names of categories (neither usual nor shared "
        "by 20 patients) go to other_categories.txt.",
    )
    flags.DEFINE_enum(
        "deduplicate",
        "none",
        ["none", "exact", "near"],
        "Leave out notes whose text equals that of an earlier one, white space and case aside "
        "(exact), or whose words mostly do (near).",
        flag_values=values,
    )
    flags.DEFINE_float(
        "near_duplicate_threshold",
        0.8,
        "For --deduplicate=near: the share of word shingles in common (Jaccard similarity) from "
        "which on the later note is left out.",
        lower_bound=0.1,
        upper_bound=1.0,
        flag_values=values,
    )
    flags.DEFINE_float(
        "held_out_fraction",
        0.0,
        "This share of the patients goes to <category>.held_out.txt, for run_pretraining's "
        "--eval_input_file. It is the same patients in every run.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=values,
    )

    values.section("How they are split")
    flags.DEFINE_enum(
        "section_rules",
        "fixed",
        ["fixed", "published"],
        "'published' gives the sections of the original program, with the text that it loses; "
        "'fixed' loses nothing.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "sentence_splitter",
        "spacy",
        ["spacy", "rules"],
        "'spacy' is the original's way with the parser of --spacy_model; 'rules' needs no model "
        "and is many times as fast.",
        flag_values=values,
    )
    string("spacy_model", "en_core_sci_md", "An installed spaCy model, or a folder that holds one.")

    values.section("Output")
    string("output_dir", None, "The folder of the output; made if it does not exist.")
    flags.DEFINE_integer(
        "num_shards",
        1,
        "Write each category as N files, <category>-00000-of-0000N.txt and so on. A hash of "
        "its text decides to which a note goes.",
        lower_bound=1,
        upper_bound=99999,
        flag_values=values,
    )
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
    settings = FormatSettings(
        columns=note_reader.ColumnNames(
            text=values.text_column,
            category=values.category_column,
            row_id=values.id_column,
            subject_id=values.subject_column,
            needs_subject=values.held_out_fraction > 0,
        ),
        category=values.category,
        skip_bad_rows=values.skip_bad_rows,
        deduplicate=values.deduplicate,
        near_duplicate_threshold=values.near_duplicate_threshold,
        held_out_fraction=values.held_out_fraction,
        section_rules=values.section_rules,
        sentence_splitter=values.sentence_splitter,
        spacy_model=values.spacy_model,
        num_shards=values.num_shards,
    )
    if values.runner is not None:
        from data_prep.formatting.beam import run as beam_format_notes

        beam_format_notes.format_notes(
            input_patterns=values.input_file,
            output_dir=values.output_dir,
            settings=settings,
            runner=values.runner,
            pipeline_options=values.pipeline_options,
        )
        return
    format_notes(
        input_files=_input_files(values.input_file) if values.input_file is not None else (),
        input_sql=values.input_sql,
        sql_table=values.sql_table,
        output_dir=Path(values.output_dir),
        settings=settings,
        num_workers=values.num_workers,
    )


def format_notes(
    *,
    input_files: Sequence[Path] = (),
    input_sql: str | None = None,
    sql_table: str | None = None,
    output_dir: Path,
    settings: FormatSettings,
    num_workers: int,
) -> None:
    """Makes pretraining text of notes.

    Memory holds a few hundred notes for each worker, whatever the size of the input; with
    `deduplicate`, also what `deduplication` says of each note that is kept.

    Args:
      input_files: CSV or Parquet.
      input_sql: in their place, a database as an SQLAlchemy URL.
      sql_table: its table.
      output_dir: made if it does not exist.
      settings: what the output follows from.
      num_workers: processes.

    Raises:
      UserError: the input, the output folder or an earlier run's output in it is at fault.
    """
    sources: list[note_reader.NoteSource] = [
        note_sources.open_file(path, settings.columns) for path in input_files
    ]
    inputs = [atomic_files.fingerprint(path) for path in input_files]
    if input_sql is not None and sql_table is not None:
        source = note_sources.open_table(input_sql, sql_table, settings.columns)
        sources.append(source)
        inputs.append(source.description)
    work_shards.make_folder(output_dir)
    workers: Workers[Sequence[NoteToFormat], FormattedBatch]
    with (
        atomic_files.held(output_dir, "format_notes"),
        Workers(settings.make_formatter, num_workers) as workers,
    ):
        described = settings.described(inputs, settings.versions(workers.description))
        earlier = manifest.find_earlier(beam_files.Folder(str(output_dir)), described)
        if earlier is manifest.Earlier.COMPLETE:
            work_shards.remove_unfinished(output_dir)
            _log.info("%s is complete already, made with these flags; nothing to do", output_dir)
            return
        survey = Survey(skip_bad_rows=settings.skip_bad_rows)
        for row in note_reader.read_all(sources):
            survey.add(row)
        categories = survey.choose(settings.category)
        folder = WorkFolder(output_dir, described)
        if earlier is manifest.Earlier.NONE and not folder.is_assembling:
            settings.require_free_names(
                str(output_dir), categories, lambda name: (output_dir / name).exists()
            )
        selection = settings.make_selection(
            categories,
            _duplicate_finder(settings.deduplicate, settings.near_duplicate_threshold),
        )
        total = sum(map(survey.usable_of, categories))
        _log.info(
            "%d notes of %s to format%s",
            total,
            describe_categories(settings.category),
            f", of which {folder.done} work shards are done" if folder.done else "",
        )
        with Progress("format_notes", "notes", total=total, rate_unit="words") as progress:
            _format_shards(
                work_shards.cut(selection.notes(note_reader.read_all(sources))),
                workers,
                folder,
                progress,
            )
        files, statistics = folder.assemble(settings.num_shards)
        manifest.write(
            output_dir,
            settings=described,
            selection=selection,
            rows={name: survey.rows_of(name) for name in categories},
            statistics=statistics,
            files=files,
        )
        folder.remove()
    manifest.log_summary(str(output_dir), selection, statistics, files)


def _require_what_runners_do(values: ProgramFlags) -> None:
    beam_flags.require_valid(values)
    if values.input_sql is not None:
        raise UsageError(
            "--runner reads files, not --input_sql; export the table to Parquet or CSV, or leave "
            "out --runner"
        )


def _input_files(patterns: str) -> list[Path]:
    files = expand_patterns(patterns, "input_file")
    note_sources.require_named_once(files)
    return files


def _format_shards(
    shards: Iterator[WorkShard],
    workers: Workers[Sequence[NoteToFormat], FormattedBatch],
    folder: WorkFolder,
    progress: Progress,
) -> None:
    """Makes the work shards that are not there yet."""
    taken: dict[str, WorkShard] = {}

    def missing() -> Iterator[tuple[str, list[NoteToFormat]]]:
        for shard in shards:
            if folder.has(shard):
                progress.skip(len(shard.notes))
                continue
            taken[shard.name] = shard._replace(notes=[])
            yield shard.name, shard.notes

    for name, batch in workers.work(missing()):
        folder.write(taken.pop(name), batch.content)
        progress.advance(batch.notes, rate=batch.words)


def _duplicate_finder(deduplicate: str, threshold: float) -> Callable[[str], bool] | None:
    if deduplicate == "none":
        return None
    from data_prep.formatting import duplicates as deduplication

    if deduplicate == "exact":
        return deduplication.ExactDuplicates().is_duplicate
    return deduplication.NearDuplicates(threshold).is_duplicate


def cli() -> None:
    """The program's entry point."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
