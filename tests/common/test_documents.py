"""Documents of a text, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.common.documents import Document, read_documents
from data_prep.common.errors import UserError
from data_prep.common.patients import UNKNOWN, as_written, patient_hash, read_hash


def text(folder: Path, patients: str | None = None) -> Path:
    path = folder / "a.txt"
    path.write_text("\n\nOne.\r\n  Two. \n\n \nThree.")
    if patients is not None:
        (folder / "a.txt.patients").write_text(patients)
    return path


def test_blank_lines_are_between_documents(tmp_path: Path) -> None:
    sizes: list[int] = []
    path = text(tmp_path)
    assert list(read_documents(path, advance=sizes.append)) == [
        Document(["One.", "Two."], None), Document(["Three."], None)
    ]  # fmt: skip
    assert sum(sizes) == path.stat().st_size


def test_a_file_beside_it_says_whose_they_are(tmp_path: Path) -> None:
    found = read_documents(text(tmp_path, "p\nq\n"))
    assert [document.patient for document in found] == ["p", "q"]


@pytest.mark.parametrize(
    ("patients", "number"), [("p\n", 1), ("p\nq\nr\n", 3), ("p\n\n", 1), ("", 0)]
)
def test_another_number_of_patients(tmp_path: Path, patients: str, number: int) -> None:
    with pytest.raises(UserError, match=f"found {number} patients, but a.txt has 2 documents"):
        list(read_documents(text(tmp_path, patients)))


def test_hashes_as_they_are_written() -> None:
    assert read_hash(as_written(UNKNOWN)) == UNKNOWN
    known = as_written(patient_hash("12"))
    assert len(known) == 16 and UNKNOWN != read_hash(known) == read_hash(known)
    assert read_hash("0") != UNKNOWN
