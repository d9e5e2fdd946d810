"""Which notes of a source are formatted, where each goes, and how many are left out and why."""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from data_prep.common.errors import UserError
from data_prep.common.patients import MANY_PATIENTS, Patients, patient_hash
from data_prep.formatting.category_names import (
    OTHER_CATEGORIES,
    could_be_name,
    looks_like_name,
    reads_like_name,
)
from data_prep.formatting.formatter import NoteToFormat
from data_prep.formatting.text_files import file_stem
from data_prep.notes.rows import BadRow, Gap, Row, normal_number

_log = logging.getLogger(__name__)

ALL_CATEGORIES = "all"

# Characters. Longer ones, or more of them together, and the column does not hold categories; the
# second bounds the memory.
_MAX_CATEGORY_LENGTH = 100
_MAX_CHARACTERS_OF_CATEGORIES = 20_000_000
_SHOWN_CATEGORIES = 12


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
        self._patients: dict[str, Patients] = {}
        self._spelling: dict[str, str] = {}
        self._characters = 0
        self._takes_others = False

    def add(self, row: Row) -> None:
        """Looks at the next row.

        Raises:
          UserError: it is a bad one, or the column of categories does not hold any.
        """
        if isinstance(row, BadRow):
            if not self._skip_bad_rows:
                raise bad_row_error(row)
            return
        if isinstance(row, Gap):
            return
        usable = not row.is_error and bool(row.text.strip())
        self._count(row.category, 1, usable, (patient_hash(row.subject_id),))

    def merge(self, found: Iterable[tuple[str, int, int, list[int]]]) -> None:
        """Adds what `found` said of the rows that follow.

        Raises:
          UserError: the column of categories does not hold any.
        """
        for category, rows, usable, patients in found:
            self._count(category, rows, usable, patients)

    def found(self) -> list[tuple[str, int, int, list[int]]]:
        """Returns each category, its rows, those of them that are usable, and hashes of patients.

        They stand as they came; of patients there are as many as tell that there are many.
        """
        return [
            (name, rows, self.usable[name], self._patients_of(name).hashes())
            for name, rows in self.rows.items()
        ]

    def rows_of(self, chosen: str) -> int:
        """Returns the rows of a category that `choose` returned."""
        return sum(self.rows[name] for name in self._values_of(chosen))

    def usable_of(self, chosen: str) -> int:
        """Returns the usable rows of a category that `choose` returned."""
        return sum(self.usable[name] for name in self._values_of(chosen))

    def _values_of(self, chosen: str) -> Iterable[str]:
        return self._unnamed() if self._takes_others and chosen == OTHER_CATEGORIES else [chosen]

    def _patients_of(self, category: str) -> Patients:
        return self._patients.get(category, Patients(MANY_PATIENTS))

    def _is_name(self, category: str) -> bool:
        return looks_like_name(category, self.rows[category], self._patients_of(category))

    def _unnamed(self) -> list[str]:
        return [category for category in self.rows if not self._is_name(category)]

    def _count(self, category: str, rows: int, usable: int, patients: Iterable[int]) -> None:
        key = category.casefold()
        if key not in self._spelling:
            self._spelling[key] = category
            self._characters += len(category)
        category = self._spelling[key]
        self.rows[category] += rows
        self.usable[category] += usable
        if could_be_name(category) and not reads_like_name(category):
            self._patients.setdefault(category, Patients(MANY_PATIENTS)).update(patients)
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
            hold commas; "all" for all that look like names, the most frequent first, and
            `OTHER_CATEGORIES` for the others together.

        Raises:
          UserError: one is not there, or none has a note to give.
        """
        if not self.rows:
            raise UserError("the input has no note that can be read; expected at least one row")
        self._takes_others = is_all(asked)
        if self._takes_others:
            chosen = self._names()
            if len(chosen) < len(self.rows):
                chosen.append(OTHER_CATEGORIES)
                self._tell_of_others()
        else:
            chosen = list(dict.fromkeys(self._named(asked)))
        if not any(map(self.usable_of, chosen)):
            raise UserError(
                f"no note is left of the {sum(map(self.rows_of, chosen))} of the chosen "
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
                    f"--category: no note is of category {missing!r}; {self._instead_of(missing)}"
                )
            yield known[",".join(parts[start:end])]
            start = end

    def _names(self) -> list[str]:
        """Returns the values that look like names of categories, the most frequent first."""
        names = [category for category in self.rows if self._is_name(category)]
        return sorted(names, key=lambda category: (-self.rows[category], category))

    def _tell_of_others(self) -> None:
        others = self._unnamed()
        _log.warning(
            "%d notes have %d values in the column of categories that do not look like names of "
            "categories (neither usual nor of %d patients); they go to %s; check "
            "--category_column, or name by --category what is to have a file of its own",
            self.rows_of(OTHER_CATEGORIES), len(others), MANY_PATIENTS, file_stem(OTHER_CATEGORIES),
        )  # fmt: skip

    def _instead_of(self, missing: str) -> str:
        """Returns the names that there are, first those like `missing`.

        Anything else in a column of texts may be a patient's.
        """
        names = self._names()
        folded = {name.casefold(): name for name in names}
        near = difflib.get_close_matches(missing.casefold(), folded, cutoff=0.75)
        if near:
            found = ", ".join(repr(folded[key]) for key in near)
            return f"found {found} and {len(self.rows) - len(near)} others, or use 'all'"
        unnamed = len(self.rows) - len(names)
        shown = ", ".join(repr(name) for name in names[:_SHOWN_CATEGORIES])
        more = len(names) - _SHOWN_CATEGORIES
        parts = [f"{shown} and {more} more" if more > 0 else shown] if names else []
        if unnamed:
            parts.append(
                f"{unnamed} different value(s) that do not look like names of categories (neither "
                f"usual nor of {MANY_PATIENTS} patients)"
            )
        advice = "check --category_column, or use 'all'" if unnamed else "or use 'all'"
        return f"found {' and '.join(parts)}{';' if unnamed else ','} {advice}"


def _without_spaces_at_commas(name: str) -> str:
    """Returns how names are compared."""
    return ",".join(normal_number(part.strip()) for part in name.casefold().split(","))


class NoteSelection:
    """Takes the notes of the chosen categories and counts what it leaves out.

    Args:
      categories: the chosen ones.
      held_out_fraction: the share of patients whose notes are held out.
      is_duplicate: called with each text in order; whether it repeats one before it.
      skip_bad_rows: whether bad rows are counted rather than an error.
      takes_others: whether a note of any other category is one of `OTHER_CATEGORIES`.

    Attributes:
      held_out_fraction: as given.
      dropped: category → reason → notes.
      bad_rows: reason → rows.
      bytes_passed_over: from bad rows on, up to where a row certainly starts.
      other_rows: rows of other categories.
    """

    def __init__(
        self,
        categories: Iterable[str],
        *,
        held_out_fraction: float,
        is_duplicate: Callable[[str], bool] | None,
        skip_bad_rows: bool,
        takes_others: bool = False,
    ) -> None:
        self._others = OTHER_CATEGORIES if takes_others else None
        self._categories = {category.casefold(): category for category in categories}
        self.held_out_fraction = held_out_fraction
        self._is_duplicate = is_duplicate
        self._skip_bad_rows = skip_bad_rows
        self.dropped: dict[str, Counter[str]] = {c: Counter() for c in self._categories.values()}
        self.bad_rows: Counter[str] = Counter()
        self.bytes_passed_over = 0
        self.other_rows = 0

    def notes(self, rows: Iterable[Row]) -> Iterator[NoteToFormat]:
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
            if isinstance(row, Gap):
                self.bytes_passed_over += row.size_bytes
                continue
            category = self._categories.get(row.category.casefold(), self._others)
            if category is None:
                self.other_rows += 1
            elif row.is_error:
                self.dropped[category]["entered in error"] += 1
            elif not row.text.strip():
                self.dropped[category]["empty text"] += 1
            elif self._is_duplicate is not None and self._is_duplicate(row.text):
                self.dropped[category]["duplicate"] += 1
            else:
                held_out = is_held_out(row.subject_id, self.held_out_fraction)
                yield NoteToFormat(category, held_out, row.text, patient_hash(row.subject_id))

    def counts(self) -> dict[str, Any]:
        """Returns what was left out so far, for `add_counts`."""
        return {
            "dropped": self.dropped,
            "bad_rows": self.bad_rows,
            "bytes_passed_over": self.bytes_passed_over,
            "other_rows": self.other_rows,
        }

    def add_counts(self, counts: Mapping[str, Any]) -> None:
        """Adds what another selection of the same categories left out."""
        for category, reasons in counts["dropped"].items():
            self.dropped[category].update(reasons)
        self.bad_rows.update(counts["bad_rows"])
        self.bytes_passed_over += counts["bytes_passed_over"]
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


def is_all(asked: str) -> bool:
    """Returns whether `--category` asks for all."""
    return asked.strip().casefold() == ALL_CATEGORIES


def describe_categories(asked: str) -> str:
    """Returns how a log calls what `--category` asks for."""
    return "all categories" if is_all(asked) else asked


def file_stems(categories: Iterable[str]) -> list[str]:
    """Returns the different file stems of categories, in order."""
    return list(dict.fromkeys(file_stem(category) for category in categories))
