"""One form of ids and categories, whatever types a source gives them."""

from __future__ import annotations

import decimal
import math
import uuid

import pytest

from data_prep.notes.rows import Note, make_note, normal_number

KEY = uuid.UUID(int=5)


@pytest.mark.parametrize(
    ("value", "subject", "category"),
    [
        (12, "12", "12"),
        ("12", "12", "12"),
        (12.0, "12", "12"),
        ("12.0", "12", "12"),
        (" 12.00 ", "12", "12"),
        ("12.", "12", "12"),
        (b"12.0", "12", "12"),
        (decimal.Decimal("12.00"), "12", "12"),
        (1e16, "10000000000000000", "10000000000000000"),
        ("0012", "12", "0012"),
        ("+12", "12", "+12"),
        ("000", "0", "000"),
        ("-12.0", "-12", "-12"),
        (12.5, "12.5", "12.5"),
        ("1e+05", "100000", "100000"),
        ("1.2345E+07", "12345000", "12345000"),
        ("1.2e1", "12", "12"),
        ("1.25e+01", "1.25e+01", "1.25e+01"),
        ("1e+99", "1e+99", "1e+99"),
        ("1e3", "1e3", "1e3"),
        ("P012", "P012", "P012"),
        ("10000032-DS-21", "10000032-DS-21", "10000032-DS-21"),
        (KEY, str(KEY), str(KEY)),
    ],
)
def test_a_value_has_one_form(value: object, subject: str, category: str) -> None:
    values = {"text": "x", "subject_id": value, "category": value, "row_id": value}
    assert make_note(values, "row 1", needs_subject=True) == Note(
        category, subject, category, False, "x"
    )


@pytest.mark.parametrize("missing", [None, math.nan, "", "  "])
def test_what_is_missing(missing: object) -> None:
    values = {"text": "x", "subject_id": missing, "category": "A", "row_id": missing}
    assert make_note(values, "row 1", needs_subject=False) == Note("", "", "A", False, "x")
    assert getattr(make_note(values, "row 1", needs_subject=True), "reason", "") == (
        "null subject id"
    )


@pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", "True", True, "t"])
def test_entered_in_error(value: object) -> None:
    note = make_note({"text": "x", "category": "A", "is_error": value}, "", needs_subject=False)
    assert isinstance(note, Note)
    assert note.is_error


def test_only_whole_numbers_change() -> None:
    assert [normal_number(text) for text in ("1.0", "1.50", "a.0", "1.0.0", "")] == [
        "1", "1.50", "a.0", "1.0.0", "",
    ]  # fmt: skip
