"""The synthetic notes."""

import collections
import csv
import hashlib
import itertools
from pathlib import Path

import pytest

from data_prep.sample_notes import COLUMNS, generate_notes, write_sample_notes
from data_prep.sectioning import split_sections
from tests.running import assert_one_line_error, assert_success, run_program


def _digest(rows: list[dict[str, str]]) -> str:
    return hashlib.sha256(repr([list(row.items()) for row in rows]).encode()).hexdigest()


def test_the_same_everywhere() -> None:
    # Another value means other notes for the same seed: say so in CHANGELOG.md.
    digest = _digest(list(generate_notes(50, seed=7)))
    assert digest == "d42b61e26d4b6618409c3ce423472be43812c7c0cb46b9b20a1e53732ce925b2"


def test_seed_decides_and_count_only_extends() -> None:
    assert list(generate_notes(20, 1)) == list(itertools.islice(generate_notes(500, 1), 20))
    assert list(generate_notes(20, 1)) != list(generate_notes(20, 2))
    assert list(generate_notes(0)) == []
    with pytest.raises(ValueError, match="-1"):
        next(generate_notes(-1))


def test_notes_are_an_archive_in_small() -> None:
    rows = list(generate_notes(2000, 3))
    assert all(tuple(row) == COLUMNS for row in rows)
    assert [row["ROW_ID"] for row in rows] == [str(i) for i in range(1, 2001)]
    categories = collections.Counter(row["CATEGORY"] for row in rows)
    assert set(categories) == {"Discharge summary", "Nursing/other", "Physician ", "Radiology"}
    assert categories["Discharge summary"] > 1000
    notes_of_patient = collections.Counter(row["SUBJECT_ID"] for row in rows)
    assert len(notes_of_patient) > 400 and max(notes_of_patient.values()) > 2
    assert 0 < sum(row["ISERROR"] == "1" for row in rows) < 100
    assert sum(row["DESCRIPTION"] == "Addendum" for row in rows) > 10
    assert len({row["TEXT"] for row in rows}) > 1900
    sentences = {line for row in rows for line in row["TEXT"].splitlines() if len(line) > 40}
    assert len(sentences) > 5000
    assert not any("{" in row["TEXT"] for row in rows)
    assert sum("[**" in row["TEXT"] for row in rows) > 1800


def test_diagnoses_come_with_their_drugs() -> None:
    summaries = [
        row["TEXT"].lower()
        for row in generate_notes(2000, 3)
        if row["CATEGORY"] == "Discharge summary" and row["DESCRIPTION"] == "Report"
    ]
    with_seizure = [text for text in summaries if "seizure" in text]
    without = [text for text in summaries if "seizure" not in text and "subdural" not in text]
    share = [
        sum("levetiracetam" in text for text in texts) / len(texts)
        for texts in (with_seizure, without)
    ]
    assert share[0] > 0.3
    assert share[1] == 0


def test_copies_are_near_duplicates() -> None:
    copies = 0
    previous: dict[str, str] = {}
    for row in generate_notes(500, 5):
        before = previous.get(row["SUBJECT_ID"])
        if before is not None and row["TEXT"].startswith(before[:1000]):
            copies += 1
            assert row["TEXT"] != before
        if row["CATEGORY"] == "Discharge summary" and row["DESCRIPTION"] == "Report":
            previous[row["SUBJECT_ID"]] = row["TEXT"]
    assert copies > 20


def test_sections_are_found() -> None:
    for row in generate_notes(50, 9):
        if row["CATEGORY"] == "Discharge summary" and row["DESCRIPTION"] == "Report":
            assert "Brief Hospital Course:" in split_sections(row["TEXT"])


def test_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    write_sample_notes(path, 30, 4)
    with path.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == list(generate_notes(30, 4))


def test_program(tmp_path: Path) -> None:
    path = tmp_path / "new" / "notes.csv"
    result = run_program("data_prep.sample_notes", output_file=path, num_notes=13, random_seed=37)
    assert_success(result)
    with path.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == list(generate_notes(13, 37))


def test_program_refuses(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    for wrong in ({"num_notes": 0}, {"num_notes": "many"}, {"output_file": None}):
        result = run_program("data_prep.sample_notes", **{"output_file": path, **wrong})
        assert_one_line_error(result, 2)
    result = run_program("data_prep.sample_notes", output_file=f"{__file__}/notes.csv")
    assert_one_line_error(result, 1, f"--output_file: {__file__} is a file")
    assert list(tmp_path.iterdir()) == []
