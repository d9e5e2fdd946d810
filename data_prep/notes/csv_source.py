"""Notes in CSV files, plain or gzip, one after the other, never a whole file at once."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, cast

from data_prep.common import contents
from data_prep.common.errors import UserError
from data_prep.common.paths import open_local
from data_prep.notes.rows import BadRow, ColumnNames, Note, Piece, folded, make_note

# A quote that is never closed swallows the rest of the file; the longest notes known have 55,725
# characters.
_LONGEST_FIELD = 32 * 1024 * 1024
# Characters of the name of a column.
_LONGEST_NAME = 1000


class CsvSource:
    """A CSV file as MIMIC ships it: quotes doubled, backslashes literal, newlines within quotes.

    Args:
      path: plain or gzip, whatever its name; UTF-8, with or without a byte order mark.
      columns: which columns hold what.
      open_binary: opens the path as bytes.

    Attributes:
      is_compressed: whether it is gzip.

    Raises:
      UserError: the header cannot be read or lacks a column, or the file is no CSV.
    """

    def __init__(
        self,
        path: str | Path,
        columns: ColumnNames,
        open_binary: Callable[[str], IO[bytes]] = open_local,
    ) -> None:
        self._path = str(path)
        self._open_binary = open_binary
        content = contents.look_at(self._path, open_binary)
        contents.require_text(self._path, content)
        self.is_compressed = content.is_gzip
        self._needs_subject = columns.needs_subject
        self._header: list[str] = []
        with self._open() as stream:
            header = next(self._records(_Lines(stream)), None)
        if header is None:
            raise UserError(f"{path}: found no header; expected one and at least one note")
        if isinstance(header, BadRow):
            raise UserError(f"{path}: the header cannot be read: {header.reason}; {header.advice}")
        _require_commas(header.fields, content.head, self._path)
        self._width = len(header.fields)
        self._places = columns.places(header.fields, str(path))
        self._header = [folded(name) for name in header.fields]

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
            if not fields or (row and self._is_header(fields, place)):
                continue
            if lines.fault is not None:
                yield BadRow(place, *lines.fault)
            else:
                yield _Record(place, fields)
            row += 1

    def _is_header(self, fields: list[str], place: str) -> bool:
        """Tells whether a row is the header once more, as where files were put together.

        Raises:
          UserError: it is a header with its columns in another order.
        """
        if len(fields) != self._width or folded(fields[0][:_LONGEST_NAME]) not in self._header:
            return False
        names = [folded(field) for field in fields]
        if names == self._header:
            return True
        if sorted(names) == sorted(self._header):
            raise UserError(
                f"{place}: another header with its columns in another order; expected files of one "
                "order put together; give them one by one with commas between"
            )
        return False


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


def _require_commas(header: Sequence[str], head: bytes, path: str) -> None:
    """Refuses a file whose columns are separated by something else than commas.

    Raises:
      UserError: says by what.
    """
    first_line = head.partition(b"\n")[0]
    for separator, name in ((b"\t", "tabs"), (b";", "semicolons"), (b"|", "vertical bars")):
        if first_line.count(separator) >= len(header):
            raise UserError(
                f"{path}: the columns of the header are separated by {name}; expected commas; "
                "convert the file, such as with pandas: read_csv(..., sep=...).to_csv(..., "
                "index=False)"
            )
