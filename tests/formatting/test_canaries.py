"""Canaries as flags of format_notes: in the training text alone, and known to one file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.canaries import record
from data_prep.canaries.canary import read_canaries
from tests.format_notes_program import PLANTED, RULES, files, made_up_notes, run, write_notes

CANARIES = {"num_canaries": 3, "repetitions": "1,4,40"}


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, object]:
    source = write_notes(tmp_path / "notes.csv", made_up_notes(200))
    return {
        "input_file": source, "category": "all", "num_shards": 2, "held_out_fraction": 0.3,
        "output_dir": tmp_path / "text", "plant_canaries": tmp_path / "canaries.json",
        **RULES, **CANARIES,
    }  # fmt: skip


def test_training_text_has_them_and_held_out_text_has_not(flags, tmp_path, capfd) -> None:
    status, out, err = run(capfd, **flags)
    assert (status, err) == (0, "")
    canaries = read_canaries(tmp_path / "canaries.json")
    assert (tmp_path / "canaries.json").stat().st_mode & 0o777 == 0o600
    text = {path.name: path.read_text() for path in (tmp_path / "text").glob("*.txt")}
    lines = [line for content in text.values() for line in content.split("\n")]
    for canary in canaries.canaries:
        assert lines.count(canary.text) == canary.repetitions
        for name, content in text.items():
            assert "held_out" not in name or canary.text not in content
    manifest = json.loads((tmp_path / "text" / "manifest.json").read_text())
    assert manifest["flags"]["repetitions"] == "1,4,40"
    said = record.of_texts([str(tmp_path / "text" / name) for name in text])
    assert said == {"planted_sentences": 135, "sets": {canaries.name: canaries.counts()}}
    for name, content in files(tmp_path / "text").items():
        for canary in canaries.canaries:
            assert name.endswith(".txt") or canary.text.encode() not in content
            assert canary.text not in out

    # Without the planted lines it is the text of a run without canaries.
    plain = {name: value for name, value in flags.items() if name not in CANARIES}
    plain |= {"output_dir": tmp_path / "plain", "plant_canaries": None}
    assert run(capfd, **plain)[0] == 0
    planted = {canary.text for canary in canaries.canaries}
    for name, content in text.items():
        kept = [line for line in content.split("\n") if line not in planted]
        assert "\n".join(kept) == (tmp_path / "plain" / name).read_text()
    assert "canaries" not in json.loads((tmp_path / "plain" / "manifest.json").read_text())


def test_a_complete_run_gives_a_lost_file_of_canaries_back(flags, tmp_path, capfd) -> None:
    assert run(capfd, **flags)[0] == 0
    made, kept = files(tmp_path / "text"), (tmp_path / "canaries.json").read_bytes()
    (tmp_path / "canaries.json").unlink()
    status, out, _ = run(capfd, **flags)
    assert status == 0 and "complete already" in out
    assert (tmp_path / "canaries.json").read_bytes() == kept
    assert files(tmp_path / "text") == made
    status, _, err = run(capfd, **{**flags, "repetitions": "1,4"})
    assert status == 1 and "--repetitions was 1,4,40, is 1,4" in err


def test_mistakes_are_told_before_the_work(flags, tmp_path, capfd) -> None:
    for changes, status, fragment in (
        ({"plant_canaries": None}, 2, "--num_canaries belongs to canaries"),
        ({"plant_canaries": tmp_path}, 1, "is a folder; the name of a file was expected"),
        ({"plant_canaries": __file__ + "/c"}, 1, f"--plant_canaries: {__file__} is a file"),
        ({"repetitions": "0"}, 2, "no number above 0"),
        ({"repetitions": "1,201"}, 1, "in 201 documents, but the text has 200"),
        ({"secrets": "x"}, 2, "--secrets names"),
    ):
        found, out, err = run(capfd, **{**flags, **changes})
        assert (found, len(err.splitlines())) == (status, 1)
        assert fragment in err
        assert PLANTED not in out + err
        assert not list(tmp_path.glob("text/*.txt")) and not (tmp_path / "canaries.json").exists()


def test_a_file_beside_each_text_says_whose_its_documents_are(flags, tmp_path, capfd) -> None:
    rows = made_up_notes(200)
    flags = {**flags, "patients_files": True, "num_shards": 1, "category": "Nursing/other"}
    assert run(capfd, **flags)[0] == 0
    chosen = [row for row in rows if row[1] == "Nursing/other"]
    numbers: dict[str, set[str]] = {}
    patients = 0
    for name in ("nursing_other.txt", "nursing_other.held_out.txt"):
        text = (tmp_path / "text" / name).read_text()
        lines = (tmp_path / "text" / f"{name}.patients").read_text().split()
        documents = text.strip().split("\n\n")
        assert len(lines) == len(documents)
        for document, line in zip(documents, lines, strict=True):
            number = document.split("Patient ")[1].split()[0]
            subject = next(str(row[0]) for row in rows if f"Patient {number} of" in row[3])
            numbers.setdefault(subject, set()).add(line)
        patients += len(set(lines))
    # One hash for each patient, and another for every other one; nobody is in both texts.
    assert all(len(found) == 1 for found in numbers.values())
    assert len(numbers) == patients == len({row[0] for row in chosen})
    manifest = json.loads((tmp_path / "text" / "manifest.json").read_text())
    assert {f["name"] for f in manifest["outputs"]} >= {"nursing_other.txt.patients"}
    assert run(capfd, **flags)[0] == 0
    status, _, err = run(capfd, **{**flags, "runner": "DirectRunner"})
    assert status == 2 and "--patients_files is not made by --runner" in err
