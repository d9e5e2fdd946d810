"""What a source of notes gives: notes, and rows that cannot be read; and in which columns they are.

A row that cannot be trusted comes out as a `BadRow`, which says where it stands and what is wrong
with it without quoting it; the caller decides whether that ends the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from data_prep.common.errors import UserError

_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0*")
# With a point or a sign, so that no name such as 12e3 is taken for one.
_WITH_EXPONENT = re.compile(
    r"[+-]?\d(?:\.\d{1,17})?[eE]\+0*(\d{1,2})|[+-]?\d\.\d{1,17}[eE](\d{1,2})"
)
_MOST_DIGITS = 18
_LEADING_ZEROS = re.compile(r"^\+?0+(?=\d+$)|^\+(?=\d+$)")


class Note(NamedTuple):
    """One note as it stands in its source.

    `row_id`, `subject_id` and `category` are stripped, and whole numbers have one form whatever the
    source, for a patient must be the same one in every file: 12 for 12.0, and a `subject_id` has no
    leading zeros. They are empty where the source has no such column; `text` may be empty.
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


class Gap(NamedTuple):
    """Bytes that were passed over, from a row on that cannot be read.

    Attributes:
      place: of the row, which came before as a `BadRow`.
      size_bytes: up to the next place that is certainly the start of a row, or to the end.
    """

    place: str
    size_bytes: int


Row = Note | BadRow | Gap


class Piece(NamedTuple):
    """Consecutive rows of a file, which can be read without those before them.

    Attributes:
      start: where they begin: bytes of a CSV (decompressed), row groups of a Parquet file.
      end: where they end.
      row: number of the first one, below 0 where it is not known.
      lines: of the file before it.
      crc: CRC-32 of the bytes, 0 for Parquet, which has checksums of its own.
      broken: the row after the piece, which cannot be read.
      gap: bytes that are passed over from that row on, 0 where there is none.
    """

    start: int
    end: int
    row: int
    lines: int
    crc: int
    broken: BadRow | None = None
    gap: int = 0


class NoteSource(Protocol):
    """Something that gives the same rows in the same order each time that it is asked."""

    def rows(self) -> Iterator[Row]:
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
            positions.setdefault(folded(name), []).append(index)
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
            columns = next((positions[folded(n)] for n in names if folded(n) in positions), [])
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


def make_note(values: Mapping[str, Any], place: str, *, needs_subject: bool) -> Note | BadRow:
    """Returns the note that a row's values by role make, whatever types its source gives them."""
    text = values["text"]
    if text is None:
        return BadRow(place, "null text", "the text is null; expected text, empty or not")
    if not isinstance(text, str):
        return BadRow(place, "text of another type", f"found {type(text).__name__}, expected text")
    category = _as_text(values.get("category"))
    if not category and "category" in values:
        return BadRow(place, "null category", "the category is empty; expected a name")
    subject_id = _LEADING_ZEROS.sub("", _as_text(values.get("subject_id")))
    if needs_subject and not subject_id:
        return BadRow(place, "null subject id", "the subject id is empty; expected one to hold out")
    is_error = _as_text(values.get("is_error")).lower() in ("1", "true", "t")
    return Note(_as_text(values.get("row_id")), subject_id, category, is_error, text)


def normal_number(text: str) -> str:
    """Returns `5001` for `5001.0`, as pandas writes whole numbers of a column with gaps.

    And `100000` for `1e+05`, as R writes it. Anything but a whole number stays as it is.
    """
    match = _WHOLE_NUMBER.fullmatch(text)
    if match:
        return match[1]
    match = _WITH_EXPONENT.fullmatch(text)
    if match and int(match[1] or match[2]) < _MOST_DIGITS:
        number = Decimal(text)
        if number == number.to_integral_value():
            return str(int(number))
    return text


def folded(name: str) -> str:
    """Returns how names of columns are compared."""
    return name.removeprefix("\ufeff").strip().casefold()


def read_all(sources: Iterable[NoteSource]) -> Iterator[Row]:
    """Yields the rows of one source after the other."""
    for source in sources:
        yield from source.rows()


def _as_text(value: Any) -> str:
    """Returns a value stripped, and one text for 5001, "5001", "5001.0", 5001.0 and b"5001"."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return normal_number(text.strip())
