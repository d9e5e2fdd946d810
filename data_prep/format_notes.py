"""Turns clinical notes into pretraining text: one sentence a line, a blank line after each note.

Reads files of notes or a table of a database, takes the notes of the chosen categories, splits each
into sections by rules and these into sentences. Writes one text per category, such as
discharge_summary.txt, manifest.json, which says what was made of what, and data_report.html.

Run again after an interruption with the same flags, it goes on from where it was.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import flags

from data_prep import manifest, note_reader, note_sources, program, work_shards
from data_prep.note_selection import ALL_CATEGORIES, NoteSelection, Survey, file_stems
from data_prep.pretraining_text import (
    HELD_OUT_SUFFIX,
    FormattedBatch,
    NoteFormatter,
    NoteToFormat,
    file_names,
)
from data_prep.program import ProgramFlags, UsageError, UserError
from data_prep.progress import Progress
from data_prep.work_shards import WorkFolder, WorkShard
from data_prep.workers import Workers

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
        "Categories, comma-separated, or 'all'; compared stripped and without regard to case.",
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
        "Write each category as so many files, <category>-00000-of-0000N.txt and so on. A hash of "
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
    flags.mark_flag_as_required("output_dir", flag_values=values)


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
    format_notes(
        input_files=_input_files(values.input_file) if values.input_file is not None else (),
        input_sql=values.input_sql,
        sql_table=values.sql_table,
        columns=note_reader.ColumnNames(
            text=values.text_column,
            category=values.category_column,
            row_id=values.id_column,
            subject_id=values.subject_column,
            needs_subject=values.held_out_fraction > 0,
        ),
        output_dir=Path(values.output_dir),
        category=values.category,
        skip_bad_rows=values.skip_bad_rows,
        deduplicate=values.deduplicate,
        near_duplicate_threshold=values.near_duplicate_threshold,
        held_out_fraction=values.held_out_fraction,
        section_rules=values.section_rules,
        sentence_splitter=values.sentence_splitter,
        spacy_model=values.spacy_model,
        num_shards=values.num_shards,
        num_workers=values.num_workers,
    )


def format_notes(
    *,
    input_files: Sequence[Path] = (),
    input_sql: str | None = None,
    sql_table: str | None = None,
    columns: note_reader.ColumnNames,
    output_dir: Path,
    category: str,
    skip_bad_rows: bool,
    deduplicate: str,
    near_duplicate_threshold: float,
    held_out_fraction: float,
    section_rules: str,
    sentence_splitter: str,
    spacy_model: str,
    num_shards: int,
    num_workers: int,
) -> None:
    """Makes pretraining text of notes; the arguments are the program's flags.

    Memory holds a few hundred notes for each worker, whatever the size of the input; with
    `deduplicate`, also what `deduplication` says of each note that is kept.

    Raises:
      UserError: the input, the output folder or an earlier run's output in it is at fault.
    """
    sources: list[note_reader.NoteSource] = [
        note_sources.open_file(path, columns) for path in input_files
    ]
    inputs = [manifest.describe_file(path) for path in input_files]
    if input_sql is not None and sql_table is not None:
        source = note_sources.open_table(input_sql, sql_table, columns)
        sources.append(source)
        inputs.append(source.description)
    chosen_flags = {
        "category": category,
        "text_column": columns.text,
        "category_column": columns.category,
        "id_column": columns.row_id,
        "subject_column": columns.subject_id,
        "skip_bad_rows": skip_bad_rows,
        "deduplicate": deduplicate,
        "near_duplicate_threshold": near_duplicate_threshold if deduplicate == "near" else None,
        "held_out_fraction": held_out_fraction,
        "section_rules": section_rules,
        "sentence_splitter": sentence_splitter,
        "spacy_model": Path(spacy_model).name if sentence_splitter == "spacy" else None,
        "num_shards": num_shards,
    }
    make_formatter = functools.partial(
        NoteFormatter,
        section_rules=section_rules,
        sentence_splitter=sentence_splitter,
        spacy_model=spacy_model,
    )
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"--output_dir: {output_dir} is a file or lies below one; a folder was expected"
        ) from None
    workers: Workers[Sequence[NoteToFormat], FormattedBatch]
    with work_shards.locked(output_dir), Workers(make_formatter, num_workers) as workers:
        settings = {
            "flags": chosen_flags,
            "inputs": inputs,
            "versions": manifest.versions(workers.description, deduplicate),
        }
        earlier = manifest.find_earlier(output_dir, settings)
        if earlier is manifest.Earlier.COMPLETE:
            _log.info("%s is complete already, made with these flags; nothing to do", output_dir)
            return
        survey = Survey(note_reader.read_all(sources), skip_bad_rows=skip_bad_rows)
        categories = survey.choose(category)
        folder = WorkFolder(output_dir, settings)
        if earlier is manifest.Earlier.NONE and not folder.is_assembling:
            _require_free_names(output_dir, categories, num_shards)
        selection = NoteSelection(
            categories,
            held_out_fraction=held_out_fraction,
            is_duplicate=_duplicate_finder(deduplicate, near_duplicate_threshold),
            skip_bad_rows=skip_bad_rows,
        )
        _log.info(
            "%d notes of %s to format%s",
            sum(survey.usable[name] for name in categories),
            "all categories" if category.strip().lower() == ALL_CATEGORIES else category,
            f", of which {folder.done} work shards are done" if folder.done else "",
        )
        with Progress(
            "format_notes",
            "notes",
            total=sum(survey.usable[name] for name in categories),
            rate_unit="words",
        ) as progress:
            _format_shards(
                work_shards.cut(selection.notes(note_reader.read_all(sources))),
                workers,
                folder,
                progress,
            )
        files, statistics = folder.assemble(num_shards)
        manifest.write(
            output_dir,
            settings=settings,
            selection=selection,
            rows=survey.rows,
            statistics=statistics,
            files=files,
        )
        folder.remove()
    manifest.log_summary(output_dir, selection, statistics, files)


def _input_files(patterns: str) -> list[Path]:
    files = program.expand_patterns(patterns, "input_file")
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            raise UserError(
                f"--input_file: {file} is named twice and would give its notes twice; name it once"
            )
        seen.add(file.resolve())
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
    from data_prep import deduplication

    if deduplicate == "exact":
        return deduplication.ExactDuplicates().is_duplicate
    return deduplication.NearDuplicates(threshold).is_duplicate


def _require_free_names(output_dir: Path, categories: Sequence[str], num_shards: int) -> None:
    for stem in file_stems(categories):
        for name in (
            *file_names(stem, num_shards),
            *file_names(stem + HELD_OUT_SUFFIX, num_shards),
        ):
            if (output_dir / name).exists():
                raise UserError(
                    f"{output_dir / name} exists and no manifest says that this program made it; "
                    "move it away, or choose another --output_dir"
                )


def cli() -> None:
    """The program's entry point."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
