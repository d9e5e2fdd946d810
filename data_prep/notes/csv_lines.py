"""The lines of a CSV as its reader takes them, with a way to go on after a broken record."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from data_prep.notes.csv_starts import WINDOW_BYTES

LONGEST_RECORD = 64 << 20
"""Bytes of a record, all its fields together."""

UNKNOWN_ROW = -1

_READ_BYTES = 1 << 20


class RecordTooLongError(Exception):
    """A record is longer than `LONGEST_RECORD`; its end has not been read."""


class Lines:
    """The lines of a file as text; what is wrong with one is noted in `fault`, not raised.

    The reader goes on to the end of the record, so that only this one is lost.

    Args:
      stream: of the file.
      number: lines before the stream.
      row: number of the first row, 0 for the header.

    Attributes:
      number: lines read, with those before the stream.
      row: number of the record that is read or comes next, `UNKNOWN_ROW` once nobody can tell.
      size: bytes read.
      fault: reason and advice, of a line since `begin_record`.
      kept: if it is a list, the lines are added to it.
      is_held: whether records before this one wait for it.
    """

    def __init__(self, stream: IO[bytes], number: int = 0, row: int = 0) -> None:
        self._stream = stream
        self.number = number
        self.row = row
        self.size = 0
        self.fault: tuple[str, str] | None = None
        self.kept: list[bytes] | None = None
        self.is_held = False
        self._kept_before = 0
        self._record: list[bytes] = []
        self._left = LONGEST_RECORD
        # Bytes that were read to look ahead, and how many of them were taken.
        self._ahead = b""
        self._at = 0

    @property
    def first_of_record(self) -> bytes:
        """The record's first line."""
        return self._record[0] if self._record else b""

    def begin_record(self) -> None:
        """Forgets the record before, unless it is held."""
        self.fault = None
        self._left = LONGEST_RECORD
        if not self.is_held:
            self._record.clear()
            self._kept_before = len(self.kept or ())

    def kept_before_record(self) -> bytes:
        """Returns what was kept before the record, and those that wait for it."""
        return b"".join((self.kept or [])[: self._kept_before])

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self._read_line()
        if not line:
            raise StopIteration
        self.number += 1
        self.size += len(line)
        self._record.append(line)
        self._left -= len(line)
        if self.kept is not None:
            self.kept.append(line)
        if self._left < 0:
            raise RecordTooLongError
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

    def _read_line(self) -> bytes:
        """Returns the next line, cut where the record becomes too long."""
        limit = self._left + 1
        if self._at == len(self._ahead):
            return self._stream.readline(limit)
        end = self._ahead.find(b"\n", self._at) + 1 or len(self._ahead)
        end = min(end, self._at + limit)
        line = self._ahead[self._at : end]
        self._at = end
        if self._at == len(self._ahead):
            self._ahead, self._at = b"", 0
            if not line.endswith(b"\n") and len(line) < limit:
                line += self._stream.readline(limit - len(line))
        return line

    def pass_over(self, is_start: Callable[[bytes, int, bool], bool]) -> int:
        """Leaves out the record that was read, and those that wait for it.

        Goes on at the next line that starts a row.

        That may be within what was read as the record, but not in its first line. Where there is
        none, the file has been read.

        Args:
          is_start: called with bytes, the place of a line in them, and whether the file ends with
            them.

        Returns:
          How many bytes were left out, from the start of the record on.
        """
        first, *others = self._record
        passed, lines = len(first), 1
        self.size -= sum(map(len, self._record))
        self.number -= len(self._record)
        data, at = b"".join(others) + self._ahead[self._at :], 0
        is_end = False
        # Of a record that is too long the rest of the line comes first.
        at_line = self._record[-1].endswith(b"\n") or bool(others)
        while True:
            if not is_end and len(data) - at < 2 * WINDOW_BYTES:
                more = self._stream.read(_READ_BYTES)
                more += self._stream.readline(_READ_BYTES)
                data, at, is_end = data[at:] + more, 0, not more
            if at >= len(data) or (at_line and is_start(data, at, is_end)):
                break
            end = data.find(b"\n", at) + 1 or len(data)
            passed += end - at
            lines += at_line
            at_line = data[end - 1 : end] == b"\n"
            at = end
        self._ahead, self._at = data, at
        self.size += passed
        self.number += lines
        return passed
