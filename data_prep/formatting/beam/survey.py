"""The first pass over the input, as steps: what is in each file, and where it can be cut.

CSV with quoted newlines cannot be entered at any place. But it is read once in any case, for its
hash and its categories; then is known where its rows begin, so that the second pass, which takes
all the time, can share a file among any number of workers. A compressed file cannot be entered at
all: its pieces are laid down in the staging folder, each compressed by itself.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, cast

import apache_beam as beam

from data_prep.beam import progress as beam_progress
from data_prep.beam import steps as beam_steps
from data_prep.beam.steps import text_free
from data_prep.common import files as beam_files
from data_prep.common.errors import UserError
from data_prep.common.hashed_stream import HashedStream
from data_prep.formatting import work_folder as work_shards
from data_prep.formatting.beam.decision import Request
from data_prep.formatting.beam.results import (
    FILES,
    SPLITTER,
    SURVEY,
    Plan,
    StagedPiece,
    read_survey,
)
from data_prep.formatting.selection import Survey
from data_prep.formatting.settings import FormatSettings
from data_prep.notes.csv_source import CsvSource
from data_prep.notes.rows import Gap, Row
from data_prep.notes.sources import open_file


def add(
    pipeline: beam.Pipeline, *, files: Sequence[str], request: Request, staging: str
) -> beam.PCollection:
    """Adds the steps of the first pass, which lays down `SURVEY` and the `Plan` in `staging`.

    Args:
      pipeline: what they are added to.
      files: the input.
      request: what decides whether there is work to do; with a folder that workers reach.
      staging: folder of the run.

    Returns:
      The pieces of the input, each a `StagedPiece` as bytes; none if there is no work to do.
    """
    surveyed = (
        pipeline
        | "Files" >> beam.Create([json.dumps(item).encode() for item in enumerate(files)])
        | "Share files" >> beam.Reshuffle()
        | "Survey" >> beam.ParDo(_SurveyFile(request.settings, staging)).with_output_types(bytes)
    )
    splitter = (
        pipeline
        | "Splitter" >> beam.Create([b""])
        | "Try it" >> beam.ParDo(_DescribeSplitter(request.settings)).with_output_types(bytes)
    )
    return (
        (surveyed, splitter)
        | "Whatever is found" >> beam.Flatten()
        | "All that is found" >> beam_steps.ToOneKey()
        | "Decide" >> beam.ParDo(_Decide(request, staging)).with_output_types(bytes)
    )


class _SurveyFile(beam.DoFn):
    def __init__(self, settings: FormatSettings, staging: str) -> None:
        self._settings = settings
        self._staging = staging

    @text_free
    def setup(self) -> None:
        beam_progress.begin(self._staging)

    @text_free
    def process(self, element: bytes) -> Iterator[bytes]:
        number, path = json.loads(element)
        survey = _CountedSurvey(self._staging, skip_bad_rows=self._settings.skip_bad_rows)
        name = f"{number:06d}-{uuid.uuid4().hex}"
        pieces = beam_files.join(self._staging, f"pieces-{name}")
        bad_header = bad_row = None
        size, digest = 0, ""
        try:
            opener = _HashingOpener()
            source = open_file(path, self._settings.columns, opener)
        except UserError as error:
            bad_header = str(error)
        else:
            try:
                if isinstance(source, CsvSource):
                    packed = beam_files.join(self._staging, f"packed-{name}")
                    lines = _cut_csv(source, survey, number, path, packed)
                else:
                    lines = [
                        StagedPiece(number, index, path, piece, None).to_bytes()
                        for index, piece in enumerate(source.pieces())
                    ]
                    for row in source.rows():
                        survey.add(row)
                beam_files.write(pieces, b"\n".join(lines))
            except UserError as error:
                bad_row = str(error)
            size, digest = opener.fingerprint(path, beam_files.size(path))
        yield json.dumps(
            [FILES, [number, path, size, digest, survey.found(), pieces, bad_header, bad_row]]
        ).encode()


class _CountedSurvey(Survey):
    """A survey that says how far it is."""

    def __init__(self, staging: str, *, skip_bad_rows: bool) -> None:
        super().__init__(skip_bad_rows=skip_bad_rows)
        self._staging = staging

    def add(self, row: Row) -> None:
        super().add(row)
        if not isinstance(row, Gap):
            beam_progress.add(self._staging, rows=1)


def _cut_csv(source: CsvSource, survey: Survey, number: int, path: str, packed: str) -> list[bytes]:
    cuts = source.cut(survey.add, work_shards.is_enough)
    if not source.is_compressed:
        return [
            StagedPiece(number, index, path, piece, None).to_bytes()
            for index, (piece, _) in enumerate(cuts)
        ]
    lines = []
    start = 0
    with beam_files.create(packed) as stream:
        for index, (piece, data) in enumerate(cuts):
            member = beam_steps.compress(data)
            stream.write(member)
            place = (packed, start, start + len(member))
            lines.append(StagedPiece(number, index, path, piece, place).to_bytes())
            start += len(member)
    return lines


class _DescribeSplitter(beam.DoFn):
    def __init__(self, settings: FormatSettings) -> None:
        self._settings = settings

    @text_free
    def process(self, element: bytes) -> Iterator[bytes]:
        try:
            found: Any = self._settings.make_formatter().description
        except UserError as error:
            found = str(error)
        yield json.dumps([SPLITTER, found]).encode()


class _Decide(beam.DoFn):
    """All that was found → the pieces of the input, if there is work to do."""

    def __init__(self, request: Request, staging: str) -> None:
        self._request = request
        self._staging = staging

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[bytes]:
        found: dict[str, list[Any]] = {FILES: [], SPLITTER: []}
        for part in element[1]:
            kind, value = json.loads(part)
            found[kind].append(value)
        beam_files.write(beam_files.join(self._staging, SURVEY), json.dumps(found).encode())
        try:
            files, splitter = read_survey(self._staging)
            decision = self._request.decide(files, splitter)
        except UserError:
            # The program reads the same survey, meets the same and tells it.
            return
        if decision is None:
            return
        Plan(decision.categories, decision.versions, decision.notes).write(self._staging)
        for file in files:
            yield from beam_files.read(file.pieces).splitlines()


class _HashingOpener:
    """Opens a file for a source that reads it through, so that its hash costs no further pass."""

    def __init__(self) -> None:
        self._last: HashedStream | None = None

    def __call__(self, path: str) -> IO[bytes]:
        if path.lower().endswith(".parquet"):
            return beam_files.open_binary(path)
        self._last = HashedStream(beam_files.open_binary(path))
        return cast(IO[bytes], io.BufferedReader(self._last, 1 << 20))

    def fingerprint(self, path: str, size: int | None) -> tuple[int, str]:
        """Returns the size and SHA-256 of the file."""
        if self._last is not None and self._last.bytes_read == size:
            return size, self._last.hexdigest()
        return size or 0, beam_files.sha256(path)
