"""format_notes as a pipeline of Apache Beam: the output of one machine, made by many."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.beam import flags as beam_flags
from data_prep.beam import launch as beam_launch
from data_prep.beam.progress import Phase
from data_prep.beam.staging import Staging
from data_prep.common import files as beam_files
from data_prep.common import lease, unfinished
from data_prep.common.errors import UserError
from data_prep.common.input_files import find_files
from data_prep.common.json_files import parse_json_object, require_shape
from data_prep.common.own_files import MANIFEST_NAME, REPORT_NAME
from data_prep.common.same_run import SHAPE
from data_prep.formatting import manifest
from data_prep.formatting import work_folder as work_shards
from data_prep.formatting.beam import results as beam_results
from data_prep.formatting.beam.decision import Decision, Request
from data_prep.formatting.beam.results import Written
from data_prep.formatting.canaries import Planting
from data_prep.formatting.selection import NoteSelection, describe_categories
from data_prep.formatting.settings import FormatSettings
from data_prep.formatting.text_files import (
    HELD_OUT_SUFFIX,
    TextFile,
    file_names,
    file_stem,
    is_held_out_file,
    require_text,
)

_log = logging.getLogger(__name__)

_ASSEMBLING = "assembling.json"


def format_notes(
    *,
    input_patterns: str,
    output_dir: str,
    settings: FormatSettings,
    runner: str,
    pipeline_options: str,
    canaries_file: Path | None = None,
) -> None:
    """Makes pretraining text of notes by a runner of Beam, the same as on one machine.

    Text goes from storage to the worker that formats it, and from there, compressed, to the one
    that writes its file. What is not complete stands in a folder within `output_dir`, which this
    process and all workers must reach under the same path.

    Args:
      input_patterns: files or globs, comma-separated.
      output_dir: a folder of any file system that Beam writes.
      settings: what the output follows from.
      runner: a name that Beam knows.
      pipeline_options: the runner's options.
      canaries_file: where the canaries go that `settings` ask for, on this machine.

    Raises:
      UserError: as on one machine; or the pipeline failed.
    """
    planting = settings.planting(canaries_file)
    options = beam_flags.split_options(pipeline_options)
    if beam_files.is_remote(output_dir) or "://" in input_patterns:
        beam_files.set_options(options)
    files = find_files(input_patterns, "input_file", keep_empty=True, once=True)
    with (
        beam_files.told_as_given(files),
        _held(output_dir) as require_held,
        _Staging(beam_files.absolute(output_dir)) as staging,
        beam_launch.Launcher(runner, options) as launcher,
    ):
        _log.info("%d file(s) to format on %s", len(files), runner)
        request = Request(settings, output_dir, staging.path, staging.begun)
        pending = _Pending(request, staging.run, planting)
        launcher.run(
            "data_prep.formatting.beam.format_steps",
            files=[beam_files.absolute(file) for file in files],
            request=request._replace(output_dir=beam_files.absolute(output_dir)),
            staging=staging.run,
            phase=pending.phase,
        )
        decision = pending.decision
        if decision is None:
            staging.finish()
            planting.restore_file()
            _log.info("%s is complete already, made with these flags; nothing to do", output_dir)
            return
        written = beam_results.read_text(staging.run)
        _require_agreement(written, decision.notes)
        written = _with_canaries(written, planting, staging.run)
        require_held()
        staging.begin_to_assemble(decision.described)
        outputs = _move(written, staging, output_dir, settings.num_shards)
        selection = _left_out(written, settings, decision.categories)
        with unfinished.temporary_folder() as here:
            manifest.write(
                here,
                settings=decision.described,
                selection=selection,
                rows={name: decision.survey.rows_of(name) for name in decision.categories},
                statistics=written.statistics,
                files=outputs,
                canaries=planting.told(),
            )
            for name in (REPORT_NAME, MANIFEST_NAME):
                staging.place(name, (here / name).read_bytes(), output_dir)
        staging.finish()
    manifest.log_summary(output_dir, selection, written.statistics, outputs)


class _Pending:
    """What a run is to do, to be had when workers have surveyed the input.

    Args:
      request: what is asked for.
      staging: folder of the run, which gets the survey.
      planting: canaries, whose file is of this machine and no worker's.
    """

    def __init__(self, request: Request, staging: str, planting: Planting) -> None:
        self._request = request
        self._staging = staging
        self._planting = planting

    @functools.cached_property
    def decision(self) -> Decision | None:
        """What is to be done, None if the output is complete already.

        Raises:
          UserError: as `Request.decide`, or the file of canaries holds others.
        """
        decision = self._request.decide(*beam_results.read_survey(self._staging))
        if decision is not None:
            self._planting.require_enough(decision.notes)
            named = describe_categories(self._request.settings.category)
            _log.info("%d notes of %s to format", decision.notes, named)
        return decision

    def phase(self) -> Phase:
        """Returns what the workers are at."""
        if not beam_results.has_survey(self._staging):
            return Phase("rows", "rows", None)
        return Phase("notes", "words", None if self.decision is None else self.decision.notes)


class _Staging(Staging):
    """The folder for what is not complete, in which a note lies once files of the output appear.

    Attributes:
      begun: what the manifest of an earlier run was to begin with that had begun to move files to
        their names, None if there was none.
    """

    def __init__(self, output_dir: str) -> None:
        super().__init__(beam_files.join(output_dir, work_shards.STAGING_NAME))
        self._marker = beam_files.join(self.path, _ASSEMBLING)
        self.stays = beam_files.size(self._marker) is not None
        self.begun = self._read_marker() if self.stays else None

    def begin_to_assemble(self, described: dict[str, Any]) -> None:
        """Notes that files of the output begin to appear."""
        beam_files.write(self._marker, json.dumps(described).encode())
        self.stays = True

    def finish(self) -> None:
        """Notes that the output is complete."""
        self.stays = False

    def _read_marker(self) -> dict[str, Any]:
        advice = f"remove {self.path} to begin anew"
        value = parse_json_object(beam_files.read(self._marker), self._marker, advice=advice)
        require_shape(value, SHAPE, self._marker, advice=advice)
        return value


@contextlib.contextmanager
def _held(output_dir: str) -> Iterator[Callable[[], None]]:
    """Makes the output folder and holds it; yields what checks that it is still held."""
    beam_files.make_folder(output_dir)
    with lease.held(output_dir, "format_notes") as require_held:
        begun = Path(output_dir) / work_shards.FOLDER_NAME
        if not beam_files.is_remote(output_dir) and begun.exists():
            raise UserError(
                f"{begun} holds the unfinished work of a run without --runner; give the same "
                f"flags without --runner to go on, remove {begun}, or choose another "
                "--output_dir"
            )
        yield require_held


def _require_agreement(written: Written, total: int) -> None:
    """Compares what was counted on the way with what arrived.

    Raises:
      UserError: they differ, or there is no text.
    """
    require_text(written.statistics)
    in_files = sum(written.file.notes for written in written.files)
    counted = written.statistics.total()["notes"]
    left_out = sum(
        number
        for dropped in (
            written.statistics.dropped,
            *(counts["dropped"] for counts in written.left_out),
        )
        for reasons in dropped.values()
        for reason, number in reasons.items()
        if reason in _AFTER_THE_SURVEY
    )
    sizes = [(file.size_bytes, beam_files.size(temporary)) for file, temporary in written.files]
    if in_files != counted or counted + left_out != total or any(a != b for a, b in sizes):
        raise UserError(
            f"the runner lost or repeated work: {total} notes came in, {counted} were formatted, "
            f"{left_out} left out, {in_files} are in the files; run the same command again, and "
            "report this line if it stays"
        )


# Reasons that notes are left out for which the survey counts as usable.
_AFTER_THE_SURVEY = ("duplicate", "sectioning failed", "no sentence")


def _left_out(
    written: Written, settings: FormatSettings, categories: Sequence[str]
) -> NoteSelection:
    selection = settings.make_selection(categories, None)
    for counts in written.left_out:
        selection.add_counts(counts)
    return selection


def _with_canaries(written: Written, planting: Planting, staging: str) -> Written:
    """Plants canaries in the training text, on this machine, and writes the file of them."""
    paths = {w.file.name: w.temporary for w in written.files if not is_held_out_file(w.file.name)}
    found = planting.plant(paths, lambda _: beam_files.join(staging, f"planted-{uuid.uuid4().hex}"))
    files = []
    for w in written.files:
        if w.file.name in found:
            path, size_bytes, sha256, _ = found[w.file.name]
            file = w.file._replace(size_bytes=size_bytes, sha256=sha256)
            w = w._replace(file=file, temporary=path)
        files.append(w)
    return written._replace(files=files)


def _move(written: Written, staging: _Staging, output_dir: str, num_shards: int) -> list[TextFile]:
    """Moves the files to their names, makes the empty ones, and returns all by name."""
    outputs = {file.name: file for file, _ in written.files}
    for file, temporary in written.files:
        beam_files.replace(temporary, beam_files.join(output_dir, file.name))
    for category, held_out in written.statistics.counts:
        for name in file_names(file_stem(category) + HELD_OUT_SUFFIX * held_out, num_shards):
            if name not in outputs:
                staging.place(name, b"", output_dir)
                outputs[name] = TextFile(name, 0, 0, hashlib.sha256().hexdigest())
    return [outputs[name] for name in sorted(outputs)]
