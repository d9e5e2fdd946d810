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
      is_held: whether records before this one wait for it.
      is_kept: whether lines are kept until `take`.
    """

    def __init__(self, stream: IO[bytes], number: int = 0, row: int = 0) -> None:
        self._stream = stream
        self.number = number
        self.row = row
        self.size = 0
        self.fault: tuple[str, str] | None = None
        self.is_held = False
        self.is_kept = False
        # Those of the record, from `_first` on, and those that are kept.
        self._lines: list[bytes] = []
        self._first = 0
        self._start = 0
        self._longest_end = LONGEST_RECORD
        # Bytes that were read to look ahead, and how many of them were taken.
        self._ahead = b""
        self._at = 0

    @property
    def first_of_record(self) -> bytes:
        """The first line of the record, or of those that wait for it."""
        return self._lines[self._first] if self._first < len(self._lines) else b""

    def begin_record(self) -> None:
        """Forgets the record before, unless it is held or kept."""
        self.fault = None
        self._longest_end = self.size + LONGEST_RECORD
        if self.is_held:
            return
        if not self.is_kept:
            self._lines.clear()
        self._first = len(self._lines)
        self._start = self.size

    @property
    def record_bytes(self) -> int:
        """The size of the record, with those that wait for it."""
        return self.size - self._start

    @property
    def last_line(self) -> bytes:
        """The last line that was read."""
        return self._lines[-1] if self._lines else b""

    @property
    def has_lone_quote(self) -> bool:
        """Whether a quote of the record, or of those that wait for it, is not one of a pair."""
        return sum(line.count(b'"') for line in self._lines[self._first :]) % 2 == 1

    def kept_before_record(self) -> bytes:
        """Returns what was kept before the record, and before those that wait for it."""
        return b"".join(self._lines[: self._first])

    def take(self) -> bytes:
        """Returns what was kept, and forgets it."""
        data = b"".join(self._lines)
        self._lines.clear()
        self._first = 0
        return data

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        # A note has a hundred lines: this is most of the time that a CSV takes.
        line = self._ahead_line() if self._ahead else self._stream.readline(LONGEST_RECORD)
        if not line:
            raise StopIteration
        self._lines.append(line)
        self.number += 1
        self.size += len(line)
        if self.size >= self._longest_end:
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

    def _ahead_line(self) -> bytes:
        """Returns the next line of what was read to look ahead."""
        end = self._ahead.find(b"\n", self._at) + 1 or len(self._ahead)
        line = self._ahead[self._at : end]
        self._at = end
        if end == len(self._ahead):
            self._ahead, self._at = b"", 0
            if not line.endswith(b"\n"):
                line += self._stream.readline(LONGEST_RECORD)
        return line

    def pass_over(self, is_start: Callable[[bytes, int, bool, bytes], bool]) -> int:
        """Leaves out the record that was read, and those that wait for it.

        Goes on at the next line that starts a row.

        That may be within what was read as the record, but not in its first line. Where there is
        none, the file has been read.

        Args:
          is_start: called with bytes, the place of a line in them, whether the file ends with
            them, and the last line before the place that is not blank.

        Returns:
          How many bytes were left out, from the start of the record on.
        """
        record = self._lines[self._first :]
        first, *others = record
        passed, lines, before = len(first), 1, first
        self.size -= sum(map(len, record))
        self.number -= len(record)
        data, at = b"".join(others) + self._ahead[self._at :], 0
        is_end = False
        # Of a record that is too long the rest of the line comes first.
        at_line = record[-1].endswith(b"\n") or bool(others)
        while True:
            if not is_end and len(data) - at < 2 * WINDOW_BYTES:
                more = self._stream.read(_READ_BYTES)
                more += self._stream.readline(_READ_BYTES)
                data, at, is_end = data[at:] + more, 0, not more
            if at >= len(data) or (at_line and is_start(data, at, is_end, before)):
                break
            end = data.find(b"\n", at) + 1 or len(data)
            passed += end - at
            lines += at_line
            if not data[at:end].isspace():
                before = data[at:end]
            at_line = data[end - 1 : end] == b"\n"
            at = end
        self._ahead, self._at = (data, at) if at < len(data) else (b"", 0)
        self.size += passed
        self.number += lines
        return passed
