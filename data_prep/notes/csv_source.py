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
from data_prep.notes.csv_lines import LONGEST_RECORD, UNKNOWN_ROW, Lines, RecordTooLongError
from data_prep.notes.csv_starts import RowsSoFar
from data_prep.notes.rows import BadRow, ColumnNames, Gap, Piece, Row, folded, make_note

# A quote that is never closed swallows the rest of the file; the longest notes known have 55,725
# characters.
_LONGEST_FIELD = 32 << 20
# What may be no row, for a quote is missing there or before.
_BROKEN_QUOTING, _WRONG_WIDTH, _TOO_LONG = (
    "broken quoting", "wrong number of fields", "field too long",
)  # fmt: skip
_BROKEN = (_BROKEN_QUOTING, _WRONG_WIDTH, _TOO_LONG)
_GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)
_MOST_HELD, _MOST_HELD_BYTES = 100, 16 << 20
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
        self._width = 0
        self._places: dict[str, int] = {}
        with self._open() as stream:
            header = next(self._records(Lines(stream)), None)
        if header is None or isinstance(header, Gap):
            raise UserError(f"{path}: found no header; expected one and at least one note")
        if isinstance(header, BadRow):
            raise UserError(f"{path}: the header cannot be read: {header.reason}; {header.advice}")
        _require_commas(header.fields, content.head, self._path)
        self._width = len(header.fields)
        self._places = columns.places(header.fields, str(path))
        self._header = [folded(name) for name in header.fields]

    def rows(self) -> Iterator[Row]:
        """Yields every row; a row number counts from 1 after the header, blank lines left out."""
        with self._open() as stream:
            records = self._records(Lines(stream))
            next(records, None)
            yield from map(self._row, records)

    def cut(
        self, see: Callable[[Row], None], is_enough: Callable[[int, int, int], bool]
    ) -> Iterator[tuple[Piece, bytes]]:
        """Reads the file once and yields its pieces with their bytes, decompressed.

        Args:
          see: called with every row.
          is_enough: called with the number of a piece, its rows and its bytes so far; whether it
            ends there.
        """
        with self._open() as stream:
            lines = Lines(stream)
            records = self._records(lines)
            next(records, None)
            start, first_line, first_row = lines.size, lines.number, lines.row
            lines.take()
            lines.is_kept = True
            number = rows = 0

            def piece(broken: BadRow | None = None, gap: int = 0) -> tuple[Piece, bytes]:
                kept = lines.take()
                data = kept if broken is None else before
                place = start, start + len(data), first_row, first_line, zlib.crc32(data)
                return Piece(*place, broken, gap), data

            before, broken = b"", None
            for record in records:
                row = self._row(record)
                see(row)
                rows += 1
                if isinstance(row, BadRow) and row.reason in _BROKEN:
                    before, broken = lines.kept_before_record(), row
                    continue
                if isinstance(row, Gap):
                    yield piece(broken, row.size_bytes)
                elif not lines.is_held and is_enough(number, rows, lines.size - start):
                    yield piece()
                else:
                    continue
                start, first_line, first_row = lines.size, lines.number, lines.row
                number, rows = number + 1, 0
            if rows:
                yield piece()

    def rows_of(self, piece: Piece, data: bytes) -> Iterator[Row]:
        """Yields the rows of a piece.

        Args:
          piece: as `cut` gave it.
          data: its bytes.

        Raises:
          UserError: they are not those that `cut` read.
        """
        if len(data) != piece.end - piece.start or zlib.crc32(data) != piece.crc:
            raise UserError(
                f"{self._path}: changed while it was read, seen after line {piece.lines}; expected "
                "a file that nobody writes to; run the same command again"
            )
        lines = Lines(io.BytesIO(data), piece.lines, piece.row)
        yield from map(self._row, self._records(lines, are_judged=True))
        if piece.broken is not None:
            yield piece.broken
            yield Gap(piece.broken.place, piece.gap)

    def read(self, piece: Piece) -> bytes:
        """Returns the bytes of a piece of a file that is not compressed."""
        with self._open() as stream:
            stream.seek(piece.start)
            return stream.read(piece.end - piece.start)

    def _row(self, record: _Record | BadRow | Gap) -> Row:
        if not isinstance(record, _Record):
            return record
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

    def _records(
        self, lines: Lines, *, are_judged: bool = False
    ) -> Iterator[_Record | BadRow | Gap]:
        """Yields the records; after a broken one a gap, whose end is looked for only then.

        A record unlike all before may be a line of a note that ended too early. It waits for what
        follows: a broken record takes it along, one that is like those before lets it go.

        Args:
          lines: of the file.
          are_judged: whether they are of a piece, whose rows were held against all before.
        """
        csv.field_size_limit(_LONGEST_FIELD)
        reader = csv.reader(lines, strict=True)
        so_far = RowsSoFar(self._places, self._width)
        held: list[_Record | BadRow] = []
        while True:
            lines.is_held = bool(held)
            lines.begin_record()
            is_first = lines.row == 0
            try:
                found = self._record(reader, lines, self._place(lines))
                if found is None:
                    continue
                faults = 0
                if isinstance(found, _Record) and not are_judged:
                    faults = so_far.faults(found.fields, found.last_line, lines.has_lone_quote)
                if faults > 1 or (faults and lines.has_lone_quote):
                    found = _broken_quoting(found.place, lines)
                if isinstance(found, BadRow) and found.reason in _BROKEN and not is_first:
                    place = held[0].place if held else found.place
                    yield found._replace(place=place)
                    row = lines.row if lines.row == UNKNOWN_ROW else lines.row - len(held)
                    held.clear()
                    yield Gap(place, self._pass_over(lines, so_far, row))
                    continue
            except StopIteration:
                yield from held
                return
            except _GZIP_ERRORS:
                raise self._cut_short(lines) from None
            lines.row += lines.row != UNKNOWN_ROW
            waits = bool(faults) or (isinstance(found, BadRow) and bool(held))
            held.append(found)
            if waits and len(held) < _MOST_HELD and lines.record_bytes < _MOST_HELD_BYTES:
                continue
            for record in held if not is_first else ():
                if isinstance(record, _Record):
                    so_far.add(record.fields, record.lines, record.last_line)
            lines.is_held = False
            yield from held
            held.clear()

    def _pass_over(self, lines: Lines, so_far: RowsSoFar, row: int) -> int:
        """Goes on at the next certain start of a row; returns how many bytes were left out."""
        is_line = lines.record_bytes == len(lines.first_of_record)
        if is_line and so_far.ends_with_its_line(lines.first_of_record):
            lines.row += lines.row != UNKNOWN_ROW
            return len(lines.first_of_record)
        is_row = so_far.begin_after(lines.first_of_record)
        size = lines.pass_over(so_far.go_on_in)
        is_known = row != UNKNOWN_ROW and not so_far.may_have_passed_rows
        lines.row = row + is_row if is_known else UNKNOWN_ROW
        return size

    def _record(
        self, reader: Iterator[list[str]], lines: Lines, place: str
    ) -> _Record | BadRow | None:
        """Returns the next record; None for a blank line or the header once more."""
        number = lines.number
        try:
            fields = next(reader)
        except csv.Error as error:
            if "larger than field limit" in str(error):
                return _too_long(place, lines)
            return _broken_quoting(place, lines)
        except RecordTooLongError:
            return _too_long(place, lines)
        if not fields or (lines.row != 0 and self._is_header(fields, place)):
            return None
        if lines.row != 0 and len(fields) != self._width:
            return BadRow(
                place,
                _WRONG_WIDTH,
                f"found {len(fields)} fields, expected the header's {self._width}; correct the "
                "quoting",
            )
        return (
            BadRow(place, *lines.fault)
            if lines.fault
            else _Record(place, fields, lines.number - number, lines.last_line)
        )

    def _place(self, lines: Lines) -> str:
        line = lines.number + 1
        if lines.row == UNKNOWN_ROW:
            return f"{self._path}: line {line}"
        return f"{self._path}: row {lines.row} (line {line})"

    def _cut_short(self, lines: Lines) -> UserError:
        read = (
            f"line {lines.number}" if lines.row == UNKNOWN_ROW else f"row {max(lines.row - 1, 0)}"
        )
        return UserError(
            f"{self._path}: the gzip stream ends or breaks after {read}; expected a complete file; "
            "fetch it again"
        )

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
    lines: int
    last_line: bytes


def _broken_quoting(place: str, lines: Lines) -> BadRow:
    return BadRow(
        place,
        _BROKEN_QUOTING,
        f"the quotes do not match up, seen at line {lines.number}; expected each field closed and "
        "each quote within it doubled",
    )


def _too_long(place: str, lines: Lines) -> BadRow:
    return BadRow(
        place,
        _TOO_LONG,
        f"a field of more than {_LONGEST_FIELD >> 20} MB, or a row of more than "
        f"{LONGEST_RECORD >> 20} MB, seen at line {lines.number}; a quote may never be closed",
    )


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
