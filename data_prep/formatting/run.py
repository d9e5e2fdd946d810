"""Runs format_notes on one machine: notes of files or of a table become text files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.common import atomic_files
from data_prep.common.files import Folder
from data_prep.common.paths import make_folder
from data_prep.common.progress import Progress
from data_prep.common.workers import Workers
from data_prep.formatting import manifest
from data_prep.formatting.formatter import FormattedBatch, NoteToFormat
from data_prep.formatting.selection import Survey, describe_categories
from data_prep.formatting.settings import FormatSettings
from data_prep.formatting.work_folder import (
    WorkFolder,
    WorkShard,
    cut,
    remove_staging,
    remove_unfinished,
    require_no_staging,
)
from data_prep.notes.rows import NoteSource, read_all
from data_prep.notes.sources import open_file, open_table

_log = logging.getLogger(__name__)


def format_notes(
    *,
    input_files: Sequence[Path] = (),
    input_sql: str | None = None,
    sql_table: str | None = None,
    output_dir: Path,
    settings: FormatSettings,
    num_workers: int,
    canaries_file: Path | None = None,
) -> None:
    """Makes pretraining text of notes.

    Memory holds a few hundred notes for each worker, whatever the size of the input; with
    `deduplicate`, also what `duplicates` says of each note that is kept.

    Args:
      input_files: CSV or Parquet.
      input_sql: in their place, a database as an SQLAlchemy URL.
      sql_table: its table.
      output_dir: made if it does not exist.
      settings: what the output follows from.
      num_workers: processes.
      canaries_file: where the canaries go that `settings` ask for.

    Raises:
      UserError: the input, the output folder or an earlier run's output in it is at fault.
    """
    planting = settings.planting(canaries_file)
    sources, inputs = _open(input_files, input_sql, sql_table, settings)
    make_folder(output_dir)
    workers: Workers[Sequence[NoteToFormat], FormattedBatch]
    with (
        atomic_files.held(output_dir, "format_notes"),
        Workers(settings.make_formatter, num_workers) as workers,
    ):
        described = settings.described(inputs, settings.versions(workers.description))
        earlier = manifest.find_earlier(Folder(str(output_dir)), described)
        if earlier is manifest.Earlier.COMPLETE:
            remove_unfinished(output_dir)
            remove_staging(output_dir)
            planting.restore_file()
            _log.info("%s is complete already, made with these flags; nothing to do", output_dir)
            return
        require_no_staging(output_dir)
        survey = Survey(skip_bad_rows=settings.skip_bad_rows)
        for row in read_all(sources):
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
        planting.require_enough(total)
        _log.info(
            "%d notes of %s to format%s",
            total,
            describe_categories(settings.category),
            f", of which {folder.done} work shards are done" if folder.done else "",
        )
        _format_shards(cut(selection.notes(read_all(sources))), workers, folder, total)
        files, statistics = folder.assemble(
            settings.num_shards, planting, patients_files=settings.patients_files
        )
        manifest.write(
            output_dir,
            settings=described,
            selection=selection,
            rows={name: survey.rows_of(name) for name in categories},
            statistics=statistics,
            files=files,
            canaries=planting.told(),
        )
        folder.remove()
    manifest.log_summary(str(output_dir), selection, statistics, files)


def _open(
    input_files: Sequence[Path],
    input_sql: str | None,
    sql_table: str | None,
    settings: FormatSettings,
) -> tuple[list[NoteSource], list[dict[str, Any]]]:
    """Returns the sources of the notes, and what a manifest says of each."""
    sources: list[NoteSource] = [open_file(path, settings.columns) for path in input_files]
    inputs = [atomic_files.fingerprint(path) for path in input_files]
    if input_sql is not None and sql_table is not None:
        source = open_table(input_sql, sql_table, settings.columns)
        sources.append(source)
        inputs.append(source.describe())
    return sources, inputs


def _format_shards(
    shards: Iterator[WorkShard],
    workers: Workers[Sequence[NoteToFormat], FormattedBatch],
    folder: WorkFolder,
    total: int,
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

    with Progress("format_notes", "notes", total=total, rate_unit="words") as progress:
        for name, batch in workers.work(missing()):
            folder.write(taken.pop(name), batch.content)
            progress.advance(batch.notes, rate=batch.words)


def _duplicate_finder(deduplicate: str, threshold: float) -> Callable[[str], bool] | None:
    if deduplicate == "none":
        return None
    from data_prep.formatting.duplicates import ExactDuplicates, NearDuplicates

    if deduplicate == "exact":
        return ExactDuplicates().is_duplicate
    return NearDuplicates(threshold).is_duplicate
