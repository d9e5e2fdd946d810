"""Both passes over the input as a pipeline; the second, pieces of it to text files, is here.

The worker that gets all notes of a file writes it under a temporary name; the program that
started the pipeline moves it to its final name. A step that a runner repeats leaves at most a
temporary file that is not used.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
import threading
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from data_prep.beam import progress as beam_progress
from data_prep.beam import steps as beam_steps
from data_prep.beam.steps import text_free
from data_prep.common import files as beam_files
from data_prep.common.errors import UserError
from data_prep.formatting import work_folder as work_shards
from data_prep.formatting.beam import survey
from data_prep.formatting.beam.decision import Request
from data_prep.formatting.beam.duplicates import PIECE, FindDuplicates
from data_prep.formatting.beam.results import COUNTS, FILES, PROBLEMS, TEXT, Plan, StagedPiece
from data_prep.formatting.formatter import NoteFormatter, NoteToFormat
from data_prep.formatting.selection import NoteSelection
from data_prep.formatting.settings import FormatSettings
from data_prep.formatting.statistics import COUNTED, TextStatistics
from data_prep.formatting.text_files import TextFile, file_names

COUNTERS = "format_notes"

_PLACE = struct.Struct(">III")
_PIECE, _DUPLICATES = b"P", b"D"
_PLACES_OF_COUNTS = 16


def build(pipeline: beam.Pipeline, *, files: Sequence[str], request: Request, staging: str) -> None:
    """Adds the steps; the results are the files `SURVEY` and, if there is work, `TEXT`.

    Args:
      pipeline: what they are added to.
      files: the input.
      request: what is asked for; with a folder that workers reach.
      staging: folder of the run, which gets the results.
    """
    settings = request.settings
    pieces = survey.add(pipeline, files=files, request=request, staging=staging)
    formatted = (
        _with_duplicates(pieces, settings, staging)
        | "Share pieces" >> beam.Reshuffle()
        | "Format"
        >> beam.ParDo(_FormatPiece(settings, staging)).with_outputs(
            COUNTS, PROBLEMS, main="documents"
        )
    )
    files = (
        formatted["documents"]
        | "Notes of a file" >> beam.GroupByKey()
        | "Write files" >> beam.ParDo(_WriteFile(staging))
    )
    counts = (
        formatted[COUNTS] | "Counts" >> beam.GroupByKey() | "Add counts" >> beam.ParDo(_AddCounts())
    )
    _ = (
        (files, counts, formatted[PROBLEMS])
        | beam.Flatten()
        | beam_steps.ToOneKey()
        | "Write" >> beam.ParDo(beam_steps.WriteJson(beam_files.join(staging, TEXT), _combined))
    )


def _with_duplicates(
    pieces: beam.PCollection, settings: FormatSettings, staging: str
) -> beam.PCollection:
    """Returns (piece, places of its duplicates)."""
    if settings.deduplicate == "none":
        return pieces | "No duplicates" >> beam.Map(_without_duplicates)
    duplicates = (
        pieces
        | "Share rows" >> beam.Reshuffle()
        | "Duplicates" >> FindDuplicates(settings, staging)
        | "As duplicates" >> beam.Map(_as_duplicates)
    )
    keyed = pieces | "As pieces" >> beam.Map(_as_piece)
    return (
        (keyed, duplicates)
        | "Pieces and duplicates" >> beam.Flatten()
        | "Duplicates of a piece" >> beam.GroupByKey()
        | "With duplicates" >> beam.Map(_joined)
    )


def _without_duplicates(piece: bytes) -> tuple[bytes, bytes]:
    return piece, b""


def _as_piece(piece: bytes) -> tuple[bytes, bytes]:
    staged = StagedPiece.from_bytes(piece)
    return PIECE.pack(staged.file, staged.number), _PIECE + piece


def _as_duplicates(element: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    return element[0], _DUPLICATES + element[1]


def _joined(element: tuple[bytes, Iterable[bytes]]) -> tuple[bytes, bytes]:
    piece, duplicates = b"", []
    for part in element[1]:
        if part[:1] == _PIECE:
            piece = part[1:]
        else:
            duplicates.append(part[1:])
    return piece, b"".join(duplicates)


class _FormatPiece(beam.DoFn):
    """A piece → for each text file (its name, place of the notes in the input and their text)."""

    def __init__(self, settings: FormatSettings, staging: str) -> None:
        self._settings = settings
        self._staging = staging

    def start_bundle(self) -> None:
        self._statistics = TextStatistics()
        # A bundle may begin before the categories are known.
        self._selection: NoteSelection | None = None

    @text_free
    def process(
        self, element: tuple[bytes, bytes]
    ) -> Iterator[tuple[bytes, bytes] | beam.pvalue.TaggedOutput]:
        staged = StagedPiece.from_bytes(element[0])
        try:
            plan = Plan.read(self._staging)
            formatter = _formatter(self._settings)
            self._require_versions(formatter, plan)
            yield from self._format(staged, _places(element[1]), formatter, plan)
        except UserError as error:
            problem = [PROBLEMS, [staged.file, staged.number, str(error)]]
            yield beam.pvalue.TaggedOutput(PROBLEMS, json.dumps(problem).encode())

    def _format(
        self, staged: StagedPiece, duplicates: set[int], formatter: _SharedFormatter, plan: Plan
    ) -> Iterator[tuple[bytes, bytes]]:
        places = iter(range(1 << 62))
        selection = self._settings.make_selection(
            plan.categories, (lambda _: next(places) in duplicates) if duplicates else None
        )
        rows = staged.rows(self._settings.columns)
        statistics = TextStatistics()
        for batch in work_shards.cut(selection.notes(rows)):
            counted, content = formatter(batch.notes)
            statistics.add(counted)
            done = counted.total()
            beam_progress.add(self._staging, notes=done["notes"], words=done["words"])
            place = _PLACE.pack(staged.file, staged.number, batch.number)
            for name, (notes, text) in content.items():
                yield name.encode(), place + struct.pack(">I", notes) + text
        self._statistics.add(statistics)
        if self._selection is None:
            self._selection = self._settings.make_selection(plan.categories, None)
        self._selection.add_counts(selection.counts())
        _show(statistics, selection)

    @text_free
    def finish_bundle(self) -> Iterator[beam.pvalue.TaggedOutput]:
        if self._selection is None:
            return
        counts = _packed_counts(self._statistics, self._selection)
        key = struct.pack(">I", zlib.crc32(counts) % _PLACES_OF_COUNTS)
        value = GlobalWindows.windowed_value((key, counts))
        yield beam.pvalue.TaggedOutput(COUNTS, value)

    def _require_versions(self, formatter: _SharedFormatter, plan: Plan) -> None:
        found = self._settings.versions(formatter.description)
        if found != plan.versions:
            differing = [
                f"{name} {found.get(name)} in place of {wanted}"
                for name, wanted in plan.versions.items()
                if found.get(name) != wanted
            ]
            raise UserError(
                f"a worker has {', '.join(differing)}; give all workers the same installation"
            )


class _AddCounts(beam.DoFn):
    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[bytes]:
        statistics = TextStatistics()
        total: NoteSelection | None = None
        for packed in element[1]:
            counts = beam_steps.unpack(packed)
            statistics.add(TextStatistics.from_json(counts["statistics"]))
            if total is None:
                categories = list(counts["left_out"]["dropped"])
                total = NoteSelection(
                    categories, held_out_fraction=0, is_duplicate=None, skip_bad_rows=True
                )
            total.add_counts(counts["left_out"])
        if total is not None:
            yield _packed_counts(statistics, total)


class _WriteFile(beam.DoFn):
    """All notes of a text file → the file, in the order of the input."""

    def __init__(self, staging: str) -> None:
        self._staging = staging

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[bytes]:
        name, parts = element
        temporary = beam_files.join(self._staging, f"text-{uuid.uuid4().hex}")
        notes = size = 0
        digest = hashlib.sha256()
        with beam_files.create(temporary) as stream:
            # Their places in the input come first, and sort as they stand there.
            for part in sorted(parts):
                notes += struct.unpack_from(">I", part, _PLACE.size)[0]
                text = zlib.decompress(part[_PLACE.size + 4 :])
                stream.write(text)
                digest.update(text)
                size += len(text)
        file = TextFile(name.decode(), notes, size, digest.hexdigest())
        yield json.dumps([FILES, [file, temporary]]).encode()


class _SharedFormatter:
    """The formatter of this process: built once, used by one thread at a time."""

    def __init__(self, settings: FormatSettings) -> None:
        self._format: NoteFormatter = settings.make_formatter()
        self._num_shards = settings.num_shards
        self._lock = threading.Lock()
        self.description = self._format.description

    def __call__(
        self, notes: Sequence[NoteToFormat]
    ) -> tuple[TextStatistics, dict[str, tuple[int, bytes]]]:
        """Returns what is counted, and for each file how many notes it gets and their text."""
        with self._lock:
            statistics, documents = self._format.format(notes)
        texts: dict[str, list[str]] = {}
        for document in documents:
            names = file_names(document.stem, self._num_shards)
            texts.setdefault(names[document.shard_key % len(names)], []).append(document.text)
        return statistics, {
            name: (len(parts), beam_steps.compress("".join(parts).encode()))
            for name, parts in texts.items()
        }


_building = threading.Lock()


@functools.lru_cache(maxsize=1)
def _built(settings: FormatSettings) -> _SharedFormatter:
    return _SharedFormatter(settings)


def _formatter(settings: FormatSettings) -> _SharedFormatter:
    with _building:
        return _built(settings)


def _places(packed: bytes) -> set[int]:
    return {number for (number,) in struct.iter_unpack("=I", packed)}


def _packed_counts(statistics: TextStatistics, selection: NoteSelection) -> bytes:
    return beam_steps.pack({"statistics": statistics.to_json(), "left_out": selection.counts()})


def _show(statistics: TextStatistics, selection: NoteSelection) -> None:
    """Adds a piece to the counters that the runner shows: numbers and reasons only."""
    total = statistics.total()
    counts = {kind: total[kind] for kind in COUNTED}
    for dropped in (*selection.dropped.values(), *statistics.dropped.values()):
        for reason, number in dropped.items():
            name = f"dropped: {reason}"
            counts[name] = counts.get(name, 0) + number
    for reason, number in selection.bad_rows.items():
        counts[f"bad rows: {reason}"] = number
    beam_steps.count(COUNTERS, counts)


def _combined(elements: Iterable[bytes]) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = {FILES: [], COUNTS: [], PROBLEMS: []}
    for element in elements:
        if element[:1] == b"[":
            kind, value = json.loads(element)
            result[kind].append(value)
        else:
            result[COUNTS].append(beam_steps.unpack(element))
    return result
