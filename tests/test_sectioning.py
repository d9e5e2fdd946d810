"""Both section rules: golden data, hand-made cases, and that nothing is lost or slow."""

import csv
import json
import random
import re

import pytest

from data_prep.sample_notes import generate_notes
from data_prep.sectioning import SectioningError, split_sections
from tests.golden_data import SHARED_NOTES, golden


def _notes() -> dict[int, str]:
    with golden("notes.csv").open(newline="") as stream:
        return {int(row["ROW_ID"]): row["TEXT"] for row in csv.DictReader(stream)}


def _golden_sections() -> list[tuple[int, list[str] | None]]:
    lines = golden("sections.jsonl").read_text().splitlines()
    return [(row["row_id"], row["sections"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize(("row_id", "expected"), _golden_sections())
def test_published_is_the_original(row_id: int, expected: list[str] | None) -> None:
    text = _notes()[row_id]
    if expected is None:
        with pytest.raises(SectioningError) as error:
            split_sections(text, "published")
        # A word of the message may be a word of the note, three in a row may not.
        words = str(error.value).split()
        assert not any(" ".join(words[i : i + 3]) in text for i in range(len(words) - 2))
    else:
        assert split_sections(text, "published") == expected


# Answers of the original program to texts made for its corners.
PUBLISHED = [
    ("", []),
    ("\n\n\n", []),
    (" \n \n ", [""]),
    ("prose", ["prose"]),
    ("Plan:\n\nrest\nwell", ["Plan:", "rest\nwell"]),
    ("Allergies:\nPenicillin\n\nCodeine\n\nPlan: x", ["Allergies:", "Codeine", "Plan: x"]),
    ("see Plan: x\nPlan: y", ["see", "Plan:", "Plan: y"]),
    ("Disp: 30", ["Disp: 30"]),
    ("Disp (x): 30", ["Disp (x): 30"]),
    ("History of Present Illness (per ED): pain", ["History of Present Illness (per ED): pain"]),
    ("Not a title: x", ["Not a title: x"]),
    ("a\nT: 98 F\nb\n P: 70", ["a", "T: 98 F\nb", " P: 70"]),
    ("one --- two ____ three", ["one", "-----", "two", "_____", "three"]),
    ("01. a\n02. b", ["\n01. a\n02. b"]),
    ("0. a", ["\n0. a"]),
    ("2. a\n3. b\nc", ["2. a", "3. b\nc"]),
    ("x\n\n10. a\n11. b", ["x", "10. a", "11. b"]),
    ("Admission Date: a Discharge Date: b\nlost line\n\nx", [
        "Admission Date: a", "Discharge Date:", "x",
    ]),
    ("Date of Birth: a Sex: F", ["Date of Birth: a", "Sex: F"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PUBLISHED)
def test_published_corners(text: str, expected: list[str]) -> None:
    assert split_sections(text, "published") == expected


@pytest.mark.parametrize(
    "text",
    [
        "1. a\n2 b",
        "9" * 5000 + ". a",
        "Admission Date: a Discharge Date: b",
    ],
)
def test_published_loses_what_the_original_loses(text: str) -> None:
    with pytest.raises(SectioningError):
        split_sections(text, "published")


FIXED = [
    ("", []),
    ("prose\nin lines\n\nmore", ["prose\nin lines", "more"]),
    # The documented faults.
    ("Allergies:\nPenicillin\n\nCodeine", ["Allergies:", "Penicillin", "Codeine"]),
    ("Allergies:\nPenicillin\n1. a\n2. b", ["Allergies:", "Penicillin", "1. a", "2. b"]),
    ("1. a\n2 b", ["1. a\n2 b"]),
    ("1. a\n10 b\n2. c", ["1. a\n10 b", "2. c"]),
    # A header is cut where its line starts; nothing on the first lines is lost.
    ("see Plan: x\nPlan: y", ["see Plan: x", "Plan: y"]),
    ("Admission Date: a Discharge Date: b\nc", ["Admission Date: a", "Discharge Date:", "b\nc"]),
    ("Admission Date:  ___      Discharge Date:   ___", ["Admission Date: ___", "Discharge Date: ___"]),  # noqa: E501
    ("Admission Date: Discharge Date: ", ["Admission Date:", "Discharge Date:"]),
    # MIMIC-IV's de-identified tokens are no breaks.
    ("Ms. ___ came to ___ on ___.", ["Ms. ___ came to ___ on ___."]),
    ("Facility:\n___\n \nPlan:\nrest", ["Facility: ___", "Plan: rest"]),
    ("seen by\n___\nat home", ["seen by\n___\nat home"]),
    # Separator lines.
    ("a\n-----\nb\n____\nc\n  ------  \nd", ["a", "b", "c", "d"]),
    ("a ----- b", ["a ----- b"]),
    ("--\n__", ["--\n__"]),
    ("a\n====\nb\n****\nc\n~~~\nd", ["a", "b", "c", "d"]),
    ("Dictated By:\n-----\nFINAL REPORT", ["Dictated By:", "FINAL REPORT"]),
    ("Attending:\n****\n\nreport", ["Attending:", "report"]),
    # Line ends inside what belongs together.
    ("Daily at 4\nPM: INR", ["Daily at 4 PM: INR"]),
    ("labs\nPM: INR", ["labs", "PM: INR"]),
    ("at [**Hospital\nWard Name: 5**] today", ["at [**Hospital Ward Name: 5**] today"]),
    ("by [**Name\n\n1. Lee**].", ["by [**Name  1. Lee**]."]),
    ("CABG in\n2015. He left", ["CABG in\n2015. He left"]),
    # Commas that stand for line ends.
    ("S:,  Well.,  She ate.,MEDICATIONS: , None.,", ["S:,  Well.,  She ate.,", "MEDICATIONS: , None.,"]),  # noqa: E501
    # Numbers that begin no item.
    ("fever of\n101.4. Stable", ["fever of\n101.4. Stable"]),
    ("fell from 3 to\n2. He left", ["fell from 3 to\n2. He left"]),
    ("1. a\n2.5 mg\n2. b", ["1. a\n2.5 mg", "2. b"]),
    ("1. a\n2. b\n1. c\n2. d", ["1. a", "2. b", "1. c", "2. d"]),
    ("Labs:\n3. a\n4. b", ["Labs:", "3. a", "4. b"]),
    # Titles.
    ("A:\nB: c\nD:\ne\nf", ["A:", "B: c", "D:", "e\nf"]),
    ("Exam\n  General: well\n  Neck: supple", ["Exam", "General: well", "Neck: supple"]),
    ("T: 98.6\nalert", ["T: 98.6\nalert"]),
    ("Disp: 30", ["Disp: 30"]),
    ("a\r\nPlan:\r\nrest\r\rend", ["a", "Plan:", "rest", "end"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FIXED)
def test_fixed(text: str, expected: list[str]) -> None:
    assert split_sections(text) == expected


def _without_separators(text: str) -> str:
    lines = re.split(r"[\n\r]", text)
    kept = (line for line in lines if not re.fullmatch(r"\s*([-=*~#]{3,}|_{4,})\s*", line))
    return "".join("".join(kept).split())


def _assert_nothing_lost(text: str) -> None:
    assert "".join("".join(split_sections(text)).split()) == _without_separators(text)


def test_fixed_loses_nothing_of_notes() -> None:
    for text in _notes().values():
        _assert_nothing_lost(text)
    for row in generate_notes(100, 1):
        _assert_nothing_lost(row["TEXT"])


def test_fixed_loses_nothing_of_real_notes() -> None:
    if not SHARED_NOTES.exists():
        pytest.skip("the ACI-Bench notes are not here")
    with SHARED_NOTES.open(newline="") as stream:
        for row in csv.DictReader(stream):
            _assert_nothing_lost(row["TEXT"])


PIECES = [
    "\n", "\n\n", "\r\n", "\n \n", " ", "\t", "\x0c", "\u00a0", "\x85", "1.", "2. ", "3.", " 1. ",
    "10.", "11. x", "0.", "Plan:", "Foo Bar: ", "see Plan: x", "Disp: 30", "T: 98", "lower: x", "(", ")", ":",  # noqa: E501
    "-----", "\n---\n", "\n====\n", "****\n", "[**", "**]", "\nPM: x", ".,Foo:", "___", "\n____\n", "Admission Date: x Discharge Date: y", "Sex: ",  # noqa: E501
    "Date of Birth: z Sex: F", "  Foo: bar", "A:", "٣.", "é:", "Éa:", "[**1-2**]", "word", "X",
]  # fmt: skip


def test_random_texts_lose_nothing_and_end_well() -> None:
    rng = random.Random(11)
    raised = 0
    for _ in range(5000):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(40)))
        _assert_nothing_lost(text)
        sections = split_sections(text)
        assert all(section == section.strip() != "" for section in sections)
        try:
            split_sections(text, "published")
        except SectioningError:
            raised += 1
    assert 0 < raised < 1000


@pytest.mark.parametrize("rules", ["fixed", "published"])
@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{i}. item\n" for i in range(1, 10_001)),
        "".join(f"{i} . item\n" for i in range(1, 10_001)) + "1.",
        "Header Title: x\n" * 10_000,
        "Header Title:\nanswer\n\n" * 10_000,
        "Header Title:\n" * 100_000,
        "a line of prose that goes on\n" * 100_000,
        "\n \n" * 100_000 + "1. a",
        "(" * 300_000 + ":",
        "A " + "(" * 300_000 + ":\n1. x",
        "1" * 300_000,
        "\n".join("1" * i for i in range(1000)) + "\n1.",
        "word " * 2_000_000,
    ],
    ids=range(12),
)
def test_long_notes_need_linear_time(text: str, rules: str) -> None:
    # Anything quadratic would take minutes to hours over these.
    if rules == "fixed":
        _assert_nothing_lost(text)
        return
    try:
        sections = split_sections(text, rules)
    except SectioningError:
        return
    assert 0 < sum(map(len, sections)) <= 2 * len(text)


def test_unknown_rules() -> None:
    with pytest.raises(ValueError, match="publishd"):
        split_sections("a secret word", "publishd")
