"""Which notes of a source are formatted, where each goes, and how many are left out and why."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from data_prep.common.errors import UserError
from data_prep.formatting.formatter import NoteToFormat, file_stem
from data_prep.notes.csv_source import BadRow, Note

ALL_CATEGORIES = "all"

# Characters. Longer ones, or more of them together, and the column does not hold categories; the
# second bounds the memory.
_MAX_CATEGORY_LENGTH = 100
_MAX_CHARACTERS_OF_CATEGORIES = 20_000_000
_SHOWN_CATEGORIES = 12
_LOOKS_LIKE_A_LABEL = re.compile(r"[A-Za-z][\w /&,().-]{0,29}")


class Survey:
    """What a first pass over the rows finds: categories and how many notes each has to give.

    It costs a small part of the work to come, and makes the bad row at the end of an archive an
    error of the first minutes rather than of the last.

    Args:
      skip_bad_rows: whether bad rows are passed over.

    Attributes:
      rows: category → rows, under the spelling that came first.
      usable: category → rows with text that were not entered in error.
    """

    def __init__(self, *, skip_bad_rows: bool) -> None:
        self._skip_bad_rows = skip_bad_rows
        self.rows: Counter[str] = Counter()
        self.usable: Counter[str] = Counter()
        self._spelling: dict[str, str] = {}
        self._characters = 0

    def add(self, row: Note | BadRow) -> None:
        """Looks at the next row.

        Raises:
          UserError: it is a bad one, or the column of categories does not hold any.
        """
        if isinstance(row, BadRow):
            if not self._skip_bad_rows:
                raise bad_row_error(row)
            return
        self._count(row.category, 1, not row.is_error and bool(row.text.strip()))

    def merge(self, found: Iterable[tuple[str, int, int]]) -> None:
        """Adds what `found` said of the rows that follow.

        Raises:
          UserError: the column of categories does not hold any.
        """
        for category, rows, usable in found:
            self._count(category, rows, usable)

    def found(self) -> list[tuple[str, int, int]]:
        """Returns each category, its rows and those of them that are usable, as they came."""
        return [(category, rows, self.usable[category]) for category, rows in self.rows.items()]

    def _count(self, category: str, rows: int, usable: int) -> None:
        key = category.casefold()
        if key not in self._spelling:
            self._spelling[key] = category
            self._characters += len(category)
        category = self._spelling[key]
        self.rows[category] += rows
        self.usable[category] += usable
        if len(category) > _MAX_CATEGORY_LENGTH or self._characters > _MAX_CHARACTERS_OF_CATEGORIES:
            raise UserError(
                f"the column of categories holds a value of more than {_MAX_CATEGORY_LENGTH} "
                f"characters, or different ones of more than {_MAX_CHARACTERS_OF_CATEGORIES:,} "
                "together; expected short names; check --category_column"
            )

    def choose(self, asked: str) -> list[str]:
        """Returns the categories that `--category` names, in its order.

        Args:
          asked: comma-separated, compared stripped and without regard to case; a name may itself
            hold commas; "all" for all, the most frequent first.

        Raises:
          UserError: one is not there, or none has a note to give.
        """
        if not self.rows:
            raise UserError("the input has no note that can be read; expected at least one row")
        if asked.strip().casefold() == ALL_CATEGORIES:
            chosen = sorted(self.rows, key=lambda category: (-self.rows[category], category))
        else:
            chosen = list(dict.fromkeys(self._named(asked)))
        if not any(self.usable[category] for category in chosen):
            raise UserError(
                f"no note is left of the {sum(self.rows[c] for c in chosen)} of the chosen "
                "category: each is empty or has ISERROR = 1; check the input and --category"
            )
        return chosen

    def _named(self, asked: str) -> Iterator[str]:
        """Yields the categories that are named; of names that begin alike, the longest."""
        known = {_without_spaces_at_commas(name): name for name in self.rows}
        parts = _without_spaces_at_commas(asked).split(",")
        most = 1 + max(name.count(",") for name in known)
        start = 0
        while start < len(parts):
            ends = range(min(len(parts), start + most), start, -1)
            end = next((end for end in ends if ",".join(parts[start:end]) in known), None)
            if end is None:
                missing = asked.split(",")[start].strip()
                raise UserError(
                    f"--category: no note is of category {missing!r}; {self._names(missing)}"
                )
            yield known[",".join(parts[start:end])]
            start = end

    def _names(self, missing: str) -> str:
        """Returns the categories that there are, if all look like some; else those like `missing`.

        Anything else in a column of texts may be a patient's.
        """
        names = sorted(self.rows, key=lambda name: (-self.rows[name], name))
        labels = [name for name in names if _LOOKS_LIKE_A_LABEL.fullmatch(name)]
        near = difflib.get_close_matches(missing.casefold(), map(str.casefold, labels), cutoff=0.75)
        if near:
            found = ", ".join(repr(self._spelling[key]) for key in near)
            return f"found {found} and {len(names) - len(near)} others, or use 'all'"
        if len(labels) < len(names):
            return (
                f"found {len(names)} different values, which do not all look like names of "
                "categories; check --category_column"
            )
        shown = ", ".join(repr(name) for name in names[:_SHOWN_CATEGORIES])
        more = len(names) - _SHOWN_CATEGORIES
        return f"found {shown}{f' and {more} more' if more > 0 else ''}, or use 'all'"


def _without_spaces_at_commas(name: str) -> str:
    """Returns how names are compared."""
    return ",".join(part.strip() for part in name.casefold().split(","))


class NoteSelection:
    """Takes the notes of the chosen categories and counts what it leaves out.

    Args:
      categories: the chosen ones.
      held_out_fraction: the share of patients whose notes are held out.
      is_duplicate: called with each text in order; whether it repeats one before it.
      skip_bad_rows: whether bad rows are counted rather than an error.

    Attributes:
      dropped: category → reason → notes.
      bad_rows: reason → rows.
      other_rows: rows of other categories.
    """

    def __init__(
        self,
        categories: Iterable[str],
        *,
        held_out_fraction: float,
        is_duplicate: Callable[[str], bool] | None,
        skip_bad_rows: bool,
    ) -> None:
        self._categories = {category.casefold(): category for category in categories}
        self._held_out_fraction = held_out_fraction
        self._is_duplicate = is_duplicate
        self._skip_bad_rows = skip_bad_rows
        self.dropped: dict[str, Counter[str]] = {c: Counter() for c in self._categories.values()}
        self.bad_rows: Counter[str] = Counter()
        self.other_rows = 0

    def notes(self, rows: Iterable[Note | BadRow]) -> Iterator[NoteToFormat]:
        """Yields the notes to format, in order.

        Raises:
          UserError: a bad row that is not to be skipped.
        """
        for row in rows:
            if isinstance(row, BadRow):
                if not self._skip_bad_rows:
                    raise bad_row_error(row)
                self.bad_rows[row.reason] += 1
                continue
            category = self._categories.get(row.category.casefold())
            if category is None:
                self.other_rows += 1
            elif row.is_error:
                self.dropped[category]["entered in error"] += 1
            elif not row.text.strip():
                self.dropped[category]["empty text"] += 1
            elif self._is_duplicate is not None and self._is_duplicate(row.text):
                self.dropped[category]["duplicate"] += 1
            else:
                held_out = is_held_out(row.subject_id, self._held_out_fraction)
                yield NoteToFormat(category, held_out, row.text)

    def counts(self) -> dict[str, Any]:
        """Returns what was left out so far, for `add_counts`."""
        return {
            "dropped": self.dropped,
            "bad_rows": self.bad_rows,
            "other_rows": self.other_rows,
        }

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Adds what another selection of the same categories left out."""
        for category, reasons in counts["dropped"].items():
            self.dropped[category].update(reasons)
        self.bad_rows.update(counts["bad_rows"])
        self.other_rows += counts["other_rows"]


def is_held_out(subject_id: str, fraction: float) -> bool:
    """Returns whether a patient is held out: the same answer in every run and for every source.

    Whoever is held out at one fraction is held out at every larger one.
    """
    if not fraction:
        return False
    digest = hashlib.sha256(subject_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def bad_row_error(row: BadRow) -> UserError:
    """Returns the error for a row that ends the run."""
    return UserError(
        f"{row.place}: {row.reason}: {row.advice}, or leave such rows out with --skip_bad_rows"
    )


def describe_categories(asked: str) -> str:
    """Returns how a log calls what `--category` asks for."""
    return "all categories" if asked.strip().casefold() == ALL_CATEGORIES else asked


def file_stems(categories: Iterable[str]) -> list[str]:
    """Returns the different file stems of categories, in order."""
    return list(dict.fromkeys(file_stem(category) for category in categories))
