"""Where the reading of a CSV can go on after a row that cannot be read.

A quote too many or too few turns what stands in a note into rows, and nothing at one place tells a
row from a line of a note. So reading goes on only where all of this holds, and ends otherwise:

- The line before ends a row: with the quote that closes the text, which in a note would be doubled,
  and as many fields as there are columns after it. Where many rows, and all, have been single
  lines, every line ends one.
- From there on every row is well formed and as wide as the header: to the end of the file, for
  `WINDOW_BYTES`, which are more than twice the longest note known, or to another broken row that
  begins as a row does. The end of the note that is broken, with its lone quote, would lie between.
- The ids of notes and patients are whole numbers there if they were so in all rows before, and else
  of the same shape: letters and digits in the same order.
- The ids of notes go on rising, from the broken row on and from row to row, and no line in the
  window that begins as a row does has a lower one. Where they are no numbers, another column of
  whole numbers serves that rose in so many rows that it was not by chance.
- The category of the first row is one that rows before had, or, before the first row that could be
  read, one that rows after it have.

So a row or two too many may be lost, rather than a line of a note be taken for a row. A row that
could be read but is unlike all before waits for what follows, and is broken if two things speak
against it. A row without a quote that has numbers for ids ends with its line, however many fields
it has. Whole rows that a broken note at the end of a file is the last to hold, with numbers that go
on and a quote of the broken note before them, are not told from others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from data_prep.notes.rows import normal_number

WINDOW_BYTES = 128 << 10

_MOST_CATEGORIES = 10_000
_MOST_DIGITS = 18
# That so many numbers, one after the other, rise by chance happens once in 40,320 files.
_ROWS_NOT_BY_CHANCE = 8
_LONGEST_END = 4 << 10
_FIELD = re.compile(rb'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",\r\n]*+))(,|\r?\n|\Z)')
# The quote at the end of a text, with the fields after it.
_CLOSING = rb'(?<!")(?:"")*"(?:,(?:[^",\r\n]*|"(?:[^"\r\n]|"")*")){%d}\r?\n?\Z'
_UNFINISHED_FIELD = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"?\Z')
_IDS = ("row_id", "subject_id")


class _Parsed(NamedTuple):
    """A row as far as it is well formed; `end` is the place after that."""

    fields: list[str]
    is_whole: bool
    end: int


class RowsSoFar:
    """What all rows of a file that could be read have in common.

    Args:
      places: the column of each role.
      width: columns of the header.

    Attributes:
      may_have_passed_rows: whether a line that `go_on_in` refused since `begin_after` may have been
        the start of a row.
    """

    def __init__(self, places: Mapping[str, int], width: int) -> None:
        self._width = width
        self._category = places.get("category")
        self._row_id = places.get("row_id")
        self._ids = [places[role] for role in _IDS if role in places]
        # Columns of ids that are not all numbers, with the shape of all that came.
        self._shapes: dict[int, bytes] = {}
        # Of the header nothing is known before it is read.
        columns_after = width - 1 - places.get("text", width - 1)
        self._closing = re.compile(_CLOSING % columns_after)
        self._last_row_id = -1
        self._rises = 0
        self._count = 0
        self._are_closed = True
        self._are_lines = True
        self._categories: set[str] = set()
        self._rising: dict[int, int] | None = None
        # Columns in which no number has come twice in a row.
        self._strictly = set(range(width))
        self._after_broken: dict[int, int] | None = None
        self.may_have_passed_rows = False

    def add(self, fields: Sequence[str], lines: int, last_line: bytes) -> None:
        """Takes in a row that could be read.

        Args:
          fields: of the row.
          lines: how many it takes.
          last_line: of these.
        """
        self._count += 1
        self._are_lines = self._are_lines and lines == 1
        self._are_closed = self._are_closed and self._is_closed(last_line)
        before = self._rising
        if before is None:
            self._rising = _numbers(fields, range(self._width))
        elif before:
            numbers = _numbers(fields, before)
            self._rising = {c: value for c, value in numbers.items() if value >= before[c]}
            self._strictly -= {c for c, value in self._rising.items() if value == before[c]}
        if self._shapes or not all(fields[column].isdigit() for column in self._ids):
            self._take_in_shapes(fields)
        if self._category is not None and len(self._categories) < _MOST_CATEGORIES:
            self._categories.add(fields[self._category].strip())

    def _take_in_shapes(self, fields: Sequence[str]) -> None:
        numbers = _numbers(fields, self._ids)
        others = [column for column in self._ids if column not in numbers]
        self._ids = [column for column in self._ids if column in numbers]
        if self._count == 1:
            self._shapes = {column: _shape(fields[column]) for column in others}
        self._shapes = {
            column: shape for column, shape in self._shapes.items()
            if _shape(fields[column]) == shape
        }  # fmt: skip

    def faults(self, fields: Sequence[str], last_line: bytes, has_lone_quote: bool) -> int:
        """Returns how much about a row is unlike all before: what it holds, its place, its end.

        Args:
          fields: of the row.
          last_line: of its lines.
          has_lone_quote: whether it holds a quote in a field without quotes.
        """
        if self._rising is None:
            return 0
        has_ids = all(fields[column].isdigit() for column in self._ids) or (
            len(_numbers(fields, self._ids)) == len(self._ids)
        )
        has_ids = has_ids and self._has_shapes(fields)
        is_known = self._category is None or fields[self._category].strip() in self._categories
        faults = (not has_ids or not is_known) + self._has_fallen(fields)
        if self._are_closed and has_lone_quote:
            faults += 1
        elif self._are_closed and self._count > 1 and not self._is_closed(last_line):
            # Of few rows all may have been closed by chance; then it makes the row wait, no more.
            is_by_chance = self._count < _ROWS_NOT_BY_CHANCE
            faults = max(faults, 1) if is_by_chance else faults + 1
        return faults

    def _has_fallen(self, fields: Sequence[str]) -> bool:
        """Tells whether the id of a note is lower than the one before, where none was so far."""
        column = self._row_id
        if column is None or column not in (self._rising or ()):
            return False
        number = _numbers(fields, [column]).get(column)
        if number is None or (number < self._last_row_id and self._rises > 1):
            return number is not None
        # Also of a row that waits.
        self._rises += 1
        self._last_row_id = number
        return False

    def _has_shapes(self, fields: Sequence[str]) -> bool:
        return all(_shape(fields[column]) == shape for column, shape in self._shapes.items())

    def _is_closed(self, last_line: bytes) -> bool:
        """Tells whether a line ends with the quote that closes a text, and the fields after it."""
        return self._closing.search(last_line[-_LONGEST_END:]) is not None

    def ends_with_its_line(self, broken: bytes) -> bool:
        """Tells whether a row has too few or too many fields and no quote, so that only it is lost.

        Args:
          broken: the first line of a row that cannot be read.
        """
        if not self._ids or b'"' in broken or not broken.endswith(b"\n"):
            return False
        fields = self._parse(broken, 0, is_end=True).fields
        return len(fields) > max(self._ids) and len(_numbers(fields, self._ids)) == len(self._ids)

    def begin_after(self, broken: bytes) -> bool:
        """Takes in the first line of what cannot be read, before `go_on_in` is asked.

        Returns:
          Whether it may be the start of a row; else it belongs to the row before.
        """
        fields = self._parse(broken, 0, is_end=True).fields
        self.may_have_passed_rows = False
        self._after_broken = self._rising
        if self._row_id is not None:
            self._last_row_id = (self._rising or {}).get(self._row_id, -1)
        if self._begins_as_row(fields, self._categories or None):
            numbers = _numbers(fields, range(len(fields)))
            if self._rising is None:
                self._after_broken = numbers
            else:
                self._after_broken = {c: max(v, numbers.get(c, v)) for c, v in self._rising.items()}
        columns = [column for column in self._ids if column < len(fields)]
        return self._rising is None or len(_numbers(fields, columns)) == len(self._ids)

    def go_on_in(self, data: bytes, start: int, is_end: bool, line_before: bytes) -> bool:
        """Tells whether the start of a line is certainly the start of a row.

        Args:
          data: bytes of the file.
          start: where the line starts.
          is_end: whether the file ends with `data`.
          line_before: the last line before it that is not blank.
        """
        first = self._parse(data, start, is_end)
        is_start = (
            first.is_whole
            and self._ends_row(line_before)
            and bool(first.fields)
            and self._follows(first.fields)
            and self._goes_on(data, start, is_end)
        )
        if not is_start and not self.may_have_passed_rows:
            columns = [column for column in self._ids if column < len(first.fields)]
            numbers = _numbers(first.fields, columns)
            self.may_have_passed_rows = bool(first.fields) and len(numbers) == len(self._ids)
        return is_start

    def _ends_row(self, line: bytes) -> bool:
        """Tells whether a line is the last one of a row."""
        if self._is_closed(line):
            return True
        if self._are_lines and self._count >= _ROWS_NOT_BY_CHANCE:
            return True
        return not self._are_closed and self.ends_with_its_line(line)

    def _goes_on(self, data: bytes, start: int, is_end: bool) -> bool:
        """Tells whether rows follow up to a place that the end of a broken note cannot pass."""
        rows, end = self._rows(data, start, is_end)
        known = self._categories or {row[self._category or 0].strip() for row in rows[1:]}
        window_end = min(len(data), start + WINDOW_BYTES)
        rising: dict[int, int] | None = self._after_broken
        if end < window_end:
            broken = self._parse(data, end, is_end).fields
            if not known and self._category is not None:
                known = {field.strip() for field in broken[self._category :][:1]}
            if not self._begins_as_row(broken, known):
                return False
            rows.append(broken)
        if not self._begins_as_row(rows[0], known):
            return False
        for row in rows:
            if len(_numbers(row, self._ids)) < len(self._ids):
                return False
            rising = self._go_on_rising(rising, row)
        if rising and self._row_id in self._ids:
            rising = {c: value for c, value in rising.items() if c == self._row_id}
        elif self._count + len(rows) < _ROWS_NOT_BY_CHANCE:
            return False
        return bool(rising) and not self._falls(data, end, window_end, known, rising or {})

    def _follows(self, row: Sequence[str]) -> bool:
        """A look at one row, which spares a look at all that follow."""
        return len(_numbers(row, self._ids)) == len(self._ids) and bool(
            self._go_on_rising(self._after_broken, row)
        )

    def _go_on_rising(self, before: Mapping[int, int] | None, row: Sequence[str]) -> dict[int, int]:
        """Returns the numbers of a row in the columns that rise, but for those of a cut row."""
        if before is None:
            return _numbers(row, range(len(row)))
        return {
            column: value
            for column, value in _numbers(row, [c for c in before if c < len(row)]).items()
            if value > before[column] or (value == before[column] and column not in self._strictly)
        }

    def _falls(
        self, data: bytes, start: int, end: int, known: set[str], rising: Mapping[int, int]
    ) -> bool:
        """Tells whether a later line begins as a row does that came before."""
        at = start
        while at < end:
            line_end = data.find(b"\n", at) + 1 or len(data)
            fields = self._parse(data[at:line_end], 0, is_end=True).fields
            if at > start and self._begins_as_row(fields, known):
                numbers = _numbers(fields, [c for c in rising if c < len(fields)])
                if any(value < rising[column] for column, value in numbers.items()):
                    return True
            at = line_end
        return False

    def _begins_as_row(self, fields: Sequence[str], known: set[str] | None) -> bool:
        """Tells whether the first fields hold ids and a known category, or any if none is known."""
        needed = [*self._ids, *self._shapes, *([] if self._category is None else [self._category])]
        if len(fields) <= max(needed, default=0):
            return False
        has_ids = len(_numbers(fields, self._ids)) == len(self._ids) and self._has_shapes(fields)
        return has_ids and (
            self._category is None or known is None or fields[self._category].strip() in known
        )

    def _rows(self, data: bytes, start: int, is_end: bool) -> tuple[list[list[str]], int]:
        """Returns the well-formed rows from `start` on, and the place where they end."""
        rows: list[list[str]] = []
        at = start
        while at < len(data) and at < start + WINDOW_BYTES:
            row = self._parse(data, at, is_end)
            if not row.is_whole:
                return rows, row.end if row.end == len(data) and not is_end else at
            if row.fields:
                rows.append(row.fields)
            at = row.end
        return rows, at

    def _parse(self, data: bytes, start: int, is_end: bool) -> _Parsed:
        """Returns the row that begins at `start`; a blank line has no fields.

        A row that goes on where `data` ends is not whole, and `end` is the end of `data`.
        """
        fields: list[str] = []
        at = start
        while True:
            match = _FIELD.match(data, at)
            if match is None:
                unfinished = _UNFINISHED_FIELD.match(data, at) is not None
                return _Parsed(fields, False, len(data) if unfinished else at)
            quoted, plain, ending = match.groups()
            if not ending and not is_end:
                return _Parsed(fields, False, len(data))
            fields.append((plain if quoted is None else quoted).decode(errors="replace"))
            at = match.end()
            if ending == b"," and len(fields) <= self._width:
                continue
            if fields == [""] and quoted is None:
                return _Parsed([], True, at)
            return _Parsed(fields, len(fields) == self._width, at)


def _shape(text: str) -> bytes:
    """Returns an id with a letter for its letters and a digit for its digits."""
    shape = re.sub(rb"[0-9]+", b"0", text.strip().encode())
    return re.sub(rb"[^\W0-9_]+", b"a", shape)


def _numbers(fields: Sequence[str], columns: Iterable[int]) -> dict[int, int]:
    """Returns the values of those columns that hold whole numbers."""
    found = {}
    for column in columns:
        text = fields[column]
        if not text.isdigit():
            text = normal_number(text.strip())
        if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
            found[column] = int(text)
    return found
