"""What the pipeline of format_notes leaves behind, for its own later steps and for the program.

Imports nothing of Beam, so that the program that starts the pipeline needs nothing of it.
"""

from __future__ import annotations

import functools
import json
import posixpath
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data_prep.common import files as beam_files
from data_prep.common.errors import UserError
from data_prep.common.paths import open_local
from data_prep.formatting.selection import Survey
from data_prep.formatting.statistics import TextStatistics
from data_prep.formatting.text_files import TextFile
from data_prep.notes.csv_source import CsvSource
from data_prep.notes.rows import BadRow, ColumnNames, Piece, Row
from data_prep.notes.sources import open_file

SURVEY, TEXT = "survey.json", "text.json"
"""Names of the results of the two passes over the input."""

_PLAN = "plan.json"

FILES, SPLITTER = "files", "splitter"
COUNTS, PROBLEMS = "counts", "problems"


class SurveyedFile(NamedTuple):
    """What is known of an input file.

    Attributes:
      number: its place among the inputs.
      path: where it is.
      size_bytes: as stored.
      sha256: of its bytes.
      found: category, rows, usable rows, patients; see `Survey.found`.
      pieces: a file that says where it can be cut, see `pieces_of`.
      bad_header: why it cannot be read at all.
      bad_row: why it cannot be used.
    """

    number: int
    path: str
    size_bytes: int
    sha256: str
    found: list[tuple[str, int, int, list[int]]]
    pieces: str
    bad_header: str | None
    bad_row: str | None

    @property
    def described(self) -> dict[str, Any]:
        """What a manifest says of the file."""
        return {
            "name": posixpath.basename(self.path),
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
        }


class StagedPiece(NamedTuple):
    """A piece of an input file, and where its bytes are.

    Attributes:
      file: number of the file.
      number: of the piece within it.
      path: the file.
      piece: its rows.
      packed: where the bytes of a piece of a compressed file lie: a staged file, start and end.
    """

    file: int
    number: int
    path: str
    piece: Piece
    packed: tuple[str, int, int] | None

    def to_bytes(self) -> bytes:
        """Returns an element for a pipeline."""
        return json.dumps(self).encode()

    @classmethod
    def from_bytes(cls, element: bytes) -> StagedPiece:
        """Returns what `to_bytes` was called on."""
        file, number, path, piece, packed = json.loads(element)
        piece = Piece(*piece)
        if piece.broken is not None:
            piece = piece._replace(broken=BadRow(*piece.broken))
        return cls(file, number, path, piece, packed)

    def rows(self, columns: ColumnNames) -> Iterator[Row]:
        """Yields the rows of the piece.

        Raises:
          UserError: the file cannot be read, or has changed.
        """
        source = _source(self.path, columns)
        if not isinstance(source, CsvSource):
            yield from source.rows_of(self.piece)
        elif self.packed is not None:
            data = zlib.decompress(beam_files.read_range(*self.packed))
            yield from source.rows_of(self.piece, data)
        else:
            yield from source.rows_of(self.piece, source.read(self.piece))


class WrittenFile(NamedTuple):
    """A text file that waits for its name, under the name that it has until then."""

    file: TextFile
    temporary: str


class Written(NamedTuple):
    """What a pipeline wrote and counted."""

    files: list[WrittenFile]
    statistics: TextStatistics
    left_out: list[Mapping[str, Any]]


class Plan(NamedTuple):
    """What steps of the second pass need to know of the first, which is not over when they begin.

    Attributes:
      categories: the chosen ones.
      versions: what each worker is to have.
      notes: how many there are to format.
    """

    categories: list[str]
    versions: dict[str, str]
    notes: int

    def write(self, staging: str) -> None:
        """Lays the plan down for the workers of a run."""
        beam_files.write(beam_files.join(staging, _PLAN), json.dumps(self).encode())

    @classmethod
    @functools.lru_cache(maxsize=1)
    def read(cls, staging: str) -> Plan:
        """Returns the plan of a run; it is there when the first piece of the input comes."""
        return cls(*json.loads(beam_files.read(beam_files.join(staging, _PLAN))))


def has_survey(staging: str) -> bool:
    """Returns whether workers have surveyed the input."""
    return beam_files.size(beam_files.join(staging, SURVEY)) is not None


def read_survey(staging: str) -> tuple[list[SurveyedFile], dict[str, str]]:
    """Returns the files in order and the versions of the sentence splitter.

    Raises:
      UserError: a header cannot be read, or the splitter cannot be loaded.
    """
    result = json.loads(beam_files.read(beam_files.join(staging, SURVEY)))
    files = sorted(SurveyedFile(*file) for file in result[FILES])
    for file in files:
        if file.bad_header is not None:
            raise UserError(file.bad_header)
    (splitter,) = result[SPLITTER]
    if isinstance(splitter, str):
        raise UserError(splitter)
    return files, splitter


def survey_of(files: Sequence[SurveyedFile], *, skip_bad_rows: bool) -> Survey:
    """Returns what one pass over all rows finds.

    Raises:
      UserError: as `Survey.add`.
    """
    survey = Survey(skip_bad_rows=skip_bad_rows)
    for file in files:
        survey.merge(file.found)
        if file.bad_row is not None:
            raise UserError(file.bad_row)
    return survey


def read_text(staging: str) -> Written:
    """Returns what the second pass wrote.

    Raises:
      UserError: a piece of the input could not be used, the first such; or workers found that
        there is nothing to do, which the program that asks has not.
    """
    path = beam_files.join(staging, TEXT)
    if beam_files.size(path) is None:
        raise UserError(
            "the workers found nothing to do, as if --output_dir held other files for them than "
            "for this program; a shared folder may be slow to show changes: run the same command "
            "again"
        )
    result = json.loads(beam_files.read(path))
    if result[PROBLEMS]:
        raise UserError(min(result[PROBLEMS])[-1])
    statistics = TextStatistics()
    left_out = []
    for counts in result[COUNTS]:
        statistics.add(TextStatistics.from_json(counts["statistics"]))
        left_out.append(counts["left_out"])
    files = [WrittenFile(TextFile(*file), temporary) for file, temporary in sorted(result[FILES])]
    return Written(files, statistics, left_out)


@functools.lru_cache(maxsize=64)
def _source(path: str, columns: ColumnNames) -> Any:
    is_remote = beam_files.is_remote(path)
    return open_file(path, columns, beam_files.open_binary if is_remote else open_local)
