"""Sources of notes: files of rows become `Note`s, one after the other, never a whole file at once.

A row that cannot be trusted comes out as a `BadRow`, which says where it stands and what is wrong
with it without quoting it; the caller decides whether that ends the run.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

from data_prep.common.errors import UserError
from data_prep.common.paths import open_local

# A quote that is never closed swallows the rest of the file; the longest notes known have 55,725
# characters.
_LONGEST_FIELD = 32 * 1024 * 1024


class Note(NamedTuple):
    """One note as it stands in its source.

    `category` is stripped; `text` may be empty; `row_id` and `subject_id` are empty where the
    source has no such column.
    """

    row_id: str
    subject_id: str
    category: str
    is_error: bool
    text: str


class BadRow(NamedTuple):
    """A row that cannot be read: where it stands, and a reason that a manifest can count by."""

    place: str
    reason: str
    advice: str


class Piece(NamedTuple):
    """Consecutive rows of a file, which can be read without those before them.

    Attributes:
      start: where they begin: bytes of a CSV (decompressed), row groups of a Parquet file.
      end: where they end.
      row: number of the first one.
      lines: of the file before it.
      crc: CRC-32 of the bytes, 0 for Parquet, which has checksums of its own.
    """

    start: int
    end: int
    row: int
    lines: int
    crc: int


class NoteSource(Protocol):
    """Something that gives the same rows in the same order each time that it is asked."""

    def rows(self) -> Iterator[Note | BadRow]:
        """Yields every row from the first on."""


@dataclass(frozen=True)
class ColumnNames:
    """Which columns hold what, compared stripped and without regard to case.

    None stands for the usual names: those of MIMIC-III's NOTEEVENTS and of MIMIC-IV-Note.

    Attributes:
      text: `text`.
      category: `category` or `note_type`.
      row_id: `row_id` or `note_id`.
      subject_id: `subject_id`.
      needs_category: notes have a category; False for uses that do not look at it, whose notes
        have an empty one.
      needs_subject: a source without subject ids is an error, and so is a row without one.
    """

    text: str | None = None
    category: str | None = None
    row_id: str | None = None
    subject_id: str | None = None
    needs_category: bool = True
    needs_subject: bool = False

    def places(self, header: Sequence[str], source: str) -> dict[str, int]:
        """Returns the index of each role's column: text, category, row_id, subject_id, is_error.

        Raises:
          UserError: a column that is needed or asked for is missing, or stands there twice.
        """
        positions: dict[str, list[int]] = {}
        for index, name in enumerate(header):
            positions.setdefault(_folded(name), []).append(index)
        roles = [
            ("text", self.text, ("text",), True, "--text_column"),
            ("category", self.category, ("category", "note_type"), True, "--category_column"),
            ("row_id", self.row_id, ("row_id", "note_id"), False, "--id_column"),
            ("subject_id", self.subject_id, ("subject_id",), self.needs_subject,
             "--subject_column"),
            ("is_error", None, ("iserror",), False, ""),
        ]  # fmt: skip
        if not self.needs_category:
            roles = [role for role in roles if role[0] != "category"]
        found: dict[str, int] = {}
        for role, asked, usual, needed, flag in roles:
            names = (asked,) if asked else usual
            columns = next((positions[_folded(n)] for n in names if _folded(n) in positions), [])
            if len(columns) == 1:
                found[role] = columns[0]
            elif columns:
                raise UserError(
                    f"{source}: {len(columns)} columns are named {' or '.join(names)}; "
                    "one was expected"
                )
            elif needed or asked:
                raise UserError(
                    f"{source}: none of the {len(header)} columns is named {' or '.join(names)}; "
                    f"check the header, or name the column by {flag}"
                )
        if found["text"] == found.get("category"):
            raise UserError(f"{source}: text and category are the same column; they must differ")
        return found


class CsvSource:
    """A CSV file as MIMIC ships it: quotes doubled, backslashes literal, newlines within quotes.

    Args:
      path: plain, or gzip if its name ends in `.gz`; UTF-8, with or without a byte order mark.
      columns: which columns hold what.
      open_binary: opens the path as bytes.

    Attributes:
      is_compressed: whether it is gzip.

    Raises:
      UserError: the header cannot be read or lacks a column.
    """

    def __init__(
        self,
        path: str | Path,
        columns: ColumnNames,
        open_binary: Callable[[str], IO[bytes]] = open_local,
    ) -> None:
        self._path = str(path)
        self._open_binary = open_binary
        self.is_compressed = self._path.lower().endswith(".gz")
        self._needs_subject = columns.needs_subject
        with self._open() as stream:
            header = next(self._records(_Lines(stream)), None)
        if header is None:
            raise UserError(f"{path}: found no header; expected one and at least one note")
        if isinstance(header, BadRow):
            raise UserError(f"{path}: the header cannot be read: {header.reason}; {header.advice}")
        self._width = len(header.fields)
        self._places = columns.places(header.fields, str(path))

    def rows(self) -> Iterator[Note | BadRow]:
        """Yields every row; a row number counts from 1 after the header, blank lines left out."""
        with self._open() as stream:
            records = self._records(_Lines(stream))
            next(records, None)
            yield from map(self._row, records)

    def cut(
        self, see: Callable[[Note | BadRow], None], is_enough: Callable[[int, int, int], bool]
    ) -> Iterator[tuple[Piece, bytes]]:
        """Reads the file once and yields its pieces with their bytes, decompressed.

        Args:
          see: called with every row.
          is_enough: called with the number of a piece, its rows and its bytes so far; whether it
            ends there.
        """
        with self._open() as stream:
            lines = _Lines(stream)
            records = self._records(lines)
            next(records, None)
            start, first_line = lines.size, lines.number
            lines.kept = []
            first_row = row = 1
            number = 0

            def piece() -> tuple[Piece, bytes]:
                data = b"".join(lines.kept or ())
                lines.kept = []
                return Piece(start, lines.size, first_row, first_line, zlib.crc32(data)), data

            for record in records:
                see(self._row(record))
                row += 1
                if is_enough(number, row - first_row, lines.size - start):
                    yield piece()
                    start, first_line, first_row = lines.size, lines.number, row
                    number += 1
            if row > first_row:
                yield piece()

    def rows_of(self, piece: Piece, data: bytes) -> Iterator[Note | BadRow]:
        """Yields the rows of a piece.

        Args:
          piece: as `cut` gave it.
          data: its bytes.

        Raises:
          UserError: they are not those that `cut` read.
        """
        if len(data) != piece.end - piece.start or zlib.crc32(data) != piece.crc:
            raise UserError(
                f"{self._path}: changed while it was read, seen at row {piece.row}; expected a "
                "file that nobody writes to; run the same command again"
            )
        lines = _Lines(io.BytesIO(data), piece.lines)
        yield from map(self._row, self._records(lines, piece.row))

    def read(self, piece: Piece) -> bytes:
        """Returns the bytes of a piece of a file that is not compressed."""
        with self._open() as stream:
            stream.seek(piece.start)
            return stream.read(piece.end - piece.start)

    def _row(self, record: _Record | BadRow) -> Note | BadRow:
        if isinstance(record, BadRow):
            return record
        if len(record.fields) != self._width:
            return BadRow(
                record.place,
                "wrong number of fields",
                f"found {len(record.fields)} fields, expected the header's {self._width}; "
                "correct the quoting",
            )
        values = {role: record.fields[i] for role, i in self._places.items()}
        return make_note(values, record.place, needs_subject=self._needs_subject)

    @contextlib.contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with self._open_binary(self._path) as file:
            if self.is_compressed:
                with gzip.GzipFile(fileobj=file) as stream:
                    yield cast(IO[bytes], stream)
            else:
                yield file

    def _records(self, lines: _Lines, row: int = 0) -> Iterator[_Record | BadRow]:
        csv.field_size_limit(_LONGEST_FIELD)
        reader = csv.reader(lines, strict=True)
        while True:
            first_line, lines.fault = lines.number + 1, None
            place = f"{self._path}: row {row} (line {first_line})"
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield BadRow(
                    place,
                    "broken quoting",
                    f"the quotes do not match up, seen at line {lines.number}; expected each field "
                    "closed and each quote within it doubled",
                )
                row += 1
                continue
            except (EOFError, gzip.BadGzipFile, zlib.error):
                raise UserError(
                    f"{self._path}: the gzip stream ends or breaks after row {max(row - 1, 0)}; "
                    "expected a complete file; fetch it again"
                ) from None
            if not fields:
                continue
            if lines.fault is not None:
                yield BadRow(place, *lines.fault)
            else:
                yield _Record(place, fields)
            row += 1


class _Record(NamedTuple):
    place: str
    fields: list[str]


class _Lines:
    """The lines of a file as text; what is wrong with one is noted in `fault`, not raised.

    The reader goes on to the end of the record, so that only this one is lost.

    Attributes:
      number: lines read, with those before the stream.
      size: bytes read.
      fault: reason and advice, of a line since it was last None.
      kept: if it is a list, the lines are added to it.
    """

    def __init__(self, stream: IO[bytes], number: int = 0) -> None:
        self._lines = iter(stream)
        self.number = number
        self.size = 0
        self.fault: tuple[str, str] | None = None
        self.kept: list[bytes] | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self.size += len(line)
        if self.kept is not None:
            self.kept.append(line)
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if b"\0" in line:
            self.fault = (
                "null character",
                f"line {self.number} holds a null character; expected text",
            )
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.fault = (
                "undecodable bytes",
                f"byte {error.start + 1} of line {self.number} is not UTF-8; "
                "convert the file to UTF-8",
            )
            return line.decode(errors="replace")


def make_note(values: Mapping[str, Any], place: str, *, needs_subject: bool) -> Note | BadRow:
    """Returns the note that a row's values by role make, whatever types its source gives them."""
    text = values["text"]
    if text is None:
        return BadRow(place, "null text", "the text is null; expected text, empty or not")
    if not isinstance(text, str):
        return BadRow(place, "text of another type", f"found {type(text).__name__}, expected text")
    category = _as_text(values.get("category")).strip()
    if not category and "category" in values:
        return BadRow(place, "null category", "the category is empty; expected a name")
    subject_id = _as_text(values.get("subject_id")).strip()
    if needs_subject and not subject_id:
        return BadRow(place, "null subject id", "the subject id is empty; expected one to hold out")
    is_error = _as_text(values.get("is_error")).strip().lower() in ("1", "1.0", "true", "t")
    return Note(_as_text(values.get("row_id")).strip(), subject_id, category, is_error, text)


def _as_text(value: Any) -> str:
    """Returns `5001` for 5001, "5001" and 5001.0 (an integer column with nulls in pandas)."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _folded(name: str) -> str:
    return name.strip().casefold()


def read_all(sources: Iterable[NoteSource]) -> Iterator[Note | BadRow]:
    """Yields the rows of one source after the other."""
    for source in sources:
        yield from source.rows()
