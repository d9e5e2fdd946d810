"""What format_notes makes: faithful, in the right files, counted."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from data_prep.formatting.selection import is_held_out
from data_prep.formatting.text_files import file_stem, shard_key
from tests.format_notes_program import (
    PLANTED,
    RULES,
    SPACY_MODEL,
    documents,
    files,
    made_up_notes,
    run,
    write_notes,
)
from tests.golden_data import golden
from tests.running import assert_success, run_program


@pytest.mark.parametrize("workers", [1, 2])
def test_published_rules_and_spacy_give_the_golden_text(workers: int, tmp_path: Path) -> None:
    result = run_program(
        "data_prep.format_notes",
        input_file=golden("notes.csv"), output_dir=tmp_path, section_rules="published",
        spacy_model=SPACY_MODEL, num_workers=workers,
    )  # fmt: skip
    assert_success(result)
    expected = golden("sentences_en_core_web_sm.txt").read_bytes()
    assert (tmp_path / "discharge_summary.txt").read_bytes() == expected
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["categories"]["Discharge summary"]["dropped"] == {"sectioning failed": 2}
    assert manifest["counts"]["notes"] == 24
    assert manifest["counts"]["words"] == len(expected.decode().split())
    assert manifest["inputs"][0]["name"] == "notes.csv"


def test_categories_drops_and_manifest(tmp_path: Path, capfd) -> None:
    notes = write_notes(
        tmp_path / "n.csv",
        [
            (1, "Physician ", "", "First note. It has two sentences."),
            (1, "PHYSICIAN", "", "Second note."),
            (2, "Nursing/other", "", "Third note."),
            (2, "Nursing/other", "1", "Entered in error."),
            (3, "Nursing/other", "", " \n "),
            (3, "Nursing/other", "", "----\n____\n"),
            (4, "ECG", "", "Fourth note."),
        ],
    )
    out = tmp_path / "out"
    status, _, err = run(
        capfd, input_file=notes, output_dir=out, category=" physician,NURSING/other", **RULES
    )
    assert (status, err) == (0, "")
    assert sorted(files(out)) == [
        "data_report.html", "manifest.json", "nursing_other.txt", "physician.txt",
    ]  # fmt: skip
    assert (out / "physician.txt").read_text() == (
        "First note.\nIt has two sentences.\n\nSecond note.\n\n"
    )
    assert (out / "nursing_other.txt").read_text() == "Third note.\n\n"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["categories"]["Physician"]["notes"] == 2
    assert manifest["categories"]["Nursing/other"]["dropped"] == {
        "empty text": 1, "entered in error": 1, "no sentence": 1,
    }  # fmt: skip
    assert manifest["rows_of_other_categories"] == 1
    assert manifest["counts"] == {"notes": 3, "sections": 3, "sentences": 4, "words": 10}
    for output in manifest["outputs"]:
        assert (out / output["name"]).stat().st_size == output["size_bytes"]
    assert str(tmp_path) not in (out / "manifest.json").read_text()


def test_all_categories_in_shards_hold_every_note_once(tmp_path: Path, capfd) -> None:
    notes = made_up_notes(50)
    source = write_notes(tmp_path / "n.csv", notes)
    for shards in (1, 3):
        status, _, err = run(
            capfd, input_file=source, output_dir=tmp_path / f"out{shards}", category="all",
            num_shards=shards, **RULES,
        )  # fmt: skip
        assert (status, err) == (0, "")
    for stem in ("discharge_summary", "nursing_other", "physician"):
        whole = documents(tmp_path / "out1" / f"{stem}.txt")
        assert len(whole) == sum(file_stem(category) == stem for _, category, _, _ in notes)
        key_of = {
            document: shard_key(text)
            for document in whole
            for *_, text in notes
            if document.split("Patient")[1].split()[0] == text.split("Patient")[1].split()[0]
        }
        for shard in range(3):
            part = tmp_path / "out3" / f"{stem}-{shard:05d}-of-00003.txt"
            assert documents(part) == [d for d in whole if key_of[d] % 3 == shard]


def test_a_note_goes_to_the_same_shard_whatever_stands_before_it(tmp_path: Path, capfd) -> None:
    notes = made_up_notes(40)
    where = []
    for name, some in (("all", notes), ("few", notes[13:])):
        source = write_notes(tmp_path / f"{name}.csv", some)
        status, _, _ = run(
            capfd, input_file=source, output_dir=tmp_path / name, category="all", num_shards=4,
            **RULES,
        )  # fmt: skip
        assert status == 0
        where.append(
            {d: path.name for path in (tmp_path / name).glob("*.txt") for d in documents(path) if d}
        )
    assert len(where[1]) == 27
    assert where[1].items() <= where[0].items()


def test_shard_keys_are_fixed_for_all_time() -> None:
    assert [shard_key(text) for text in ("", "a", "µ \ud800")] == SHARD_KEYS


SHARD_KEYS = [16476032584258269876, 4681665781835383343, 4109550320346809753]


def test_file_stem() -> None:
    assert file_stem(" Discharge summary ") == "discharge_summary"
    assert file_stem("Nursing/other") == "nursing_other"
    assert file_stem("Case Management (A & B)") == "case_management_a_b_"


def test_several_files_globs_and_gzip(tmp_path: Path, capfd) -> None:
    notes = made_up_notes(30)
    write_notes(tmp_path / "whole.csv", notes)
    write_notes(tmp_path / "part1.csv", notes[:11])
    plain = write_notes(tmp_path / "rest.csv", notes[11:])
    (tmp_path / "part2.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    for name, patterns in (("a", "whole.csv"), ("b", "part*.csv,part2.csv.gz")):
        status, _, _ = run(
            capfd, output_dir=tmp_path / name, category="all", **RULES,
            input_file=",".join(str(tmp_path / pattern) for pattern in patterns.split(",")),
        )  # fmt: skip
        assert status == 0
    assert (tmp_path / "a" / "physician.txt").read_bytes() == (
        tmp_path / "b" / "physician.txt"
    ).read_bytes()


def test_mimic_iv_notes(tmp_path: Path, capfd) -> None:
    header = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n"
    for name, note_type in (("discharge", "DS"), ("radiology", "RR")):
        rows = f'1-{note_type}-2,1,22,{note_type},2,,,"Seen by Dr. ___ today. Went home."\n'
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress((header + rows).encode()))
    flags = {"input_file": f"{tmp_path}/*.csv.gz", "output_dir": tmp_path / "out", **RULES}
    status, _, err = run(capfd, **flags)
    assert status == 1
    assert "found 'DS', 'RR'" in err
    status, _, err = run(capfd, category="all", **flags)
    assert (status, err) == (0, "")
    for stem in ("ds", "rr"):
        expected = "Seen by Dr. ___ today.\nWent home.\n\n"
        assert (tmp_path / "out" / f"{stem}.txt").read_text() == expected


def test_held_out_patients(tmp_path: Path, capfd) -> None:
    notes = [(subject, "A", "", f"Patient {subject} note {i}.") for subject in range(200)
             for i in range(2)]  # fmt: skip
    source = write_notes(tmp_path / "n.csv", notes)
    held: dict[float, set[str]] = {}
    for fraction in (0.1, 0.3):
        out = tmp_path / str(fraction)
        status, _, _ = run(
            capfd, input_file=source, output_dir=out, category="a", num_shards=2,
            held_out_fraction=fraction, **RULES,
        )  # fmt: skip
        assert status == 0
        train = {
            line.split()[1]
            for path in out.glob("a-*.txt")
            for line in path.read_text().split("\n")
            if line
        }
        held[fraction] = {doc.split()[1] for doc in documents(out / "a.held_out.txt")}
        assert not train & held[fraction]
        assert len(train | held[fraction]) == 200
    assert held[0.1] < held[0.3]
    assert 10 <= len(held[0.1]) <= 35
    # Fixed for all time: a change would mix a published split.
    assert [s for s in map(str, range(60)) if is_held_out(s, 0.1)] == HELD_OUT_OF_60


def write_numbered(path: Path, number: str, patients: range) -> Path:
    """Notes of patients whose ids are written in a way of their own, two each."""
    notes = [
        (number.format(patient), "A", "", f"Patient p{patient} note {i}.")
        for patient in patients
        for i in range(2)
    ]
    return write_notes(path, notes)


@pytest.mark.parametrize("others", ["{}.0", "{}.00", " {} ", "00{}", "+{}", "{}."])
def test_a_patient_is_the_same_however_the_id_is_written(
    tmp_path: Path, capfd, others: str
) -> None:
    whole = write_numbered(tmp_path / "whole.csv", "{}", range(60))
    other = write_numbered(tmp_path / "other.csv", others, range(60))
    out = tmp_path / "out"
    status, _, err = run(
        capfd, input_file=f"{whole},{other}", output_dir=out, category="all",
        held_out_fraction=0.2, **RULES,
    )  # fmt: skip
    assert (status, err) == (0, "")
    held, train = (
        {
            line.split()[1]
            for path in out.glob("*.txt")
            if (".held_out" in path.name) == held_out
            for line in path.read_text().split("\n")
            if line
        }
        for held_out in (True, False)
    )
    assert len(held) > 5
    assert not held & train
    assert len(held | train) == 60


@pytest.mark.parametrize("asked", ["44814637", "44814637.0"])
@pytest.mark.parametrize("stored", ["44814637", "44814637.0"])
def test_a_numeric_category_is_the_same_however_it_is_written(
    tmp_path: Path, capfd, asked: str, stored: str
) -> None:
    notes = [(n, stored if n else "44814638.0", "", f"Note {n} is here.") for n in range(30)]
    source = write_notes(tmp_path / "n.csv", notes)
    out = tmp_path / "out"
    status, _, err = run(capfd, input_file=source, output_dir=out, category=asked, **RULES)
    assert (status, err) == (0, "")
    assert len(documents(out / "44814637.txt")) == 29


@pytest.mark.parametrize(("fraction", "said"), [(0.0001, "held-out set"), (1.0, "training set")])
def test_an_empty_set_is_said(tmp_path: Path, capfd, fraction: float, said: str) -> None:
    source = write_notes(tmp_path / "n.csv", [(n, "A", "", f"Note {n}.") for n in range(9)])
    status, _, err = run(
        capfd, input_file=source, output_dir=tmp_path / "out", category="a",
        held_out_fraction=fraction, **RULES,
    )  # fmt: skip
    assert status == 0
    assert f"--held_out_fraction={fraction} leaves the {said} empty" in err


HELD_OUT_OF_60 = ["9", "39", "49", "51", "55"]


@pytest.mark.parametrize(("how", "kept"), [("none", 6), ("exact", 4), ("near", 3)])
def test_duplicates(tmp_path: Path, capfd, how: str, kept: int) -> None:
    rng = random.Random(3)
    base, other = (
        " ".join(rng.choice(["renal", "heart", "failure", "acute", "mild"]) + str(i)
                 for i in range(100))
        for _ in range(2)
    )  # fmt: skip
    texts = [base, other, base, base.upper().replace(" ", "\n"), base + " addendum", "short note"]
    source = write_notes(tmp_path / "n.csv", [(1, "A", "", text) for text in texts])
    status, _, _ = run(
        capfd, input_file=source, output_dir=tmp_path / "o", category="A", deduplicate=how, **RULES
    )
    assert status == 0
    category = json.loads((tmp_path / "o" / "manifest.json").read_text())["categories"]["A"]
    assert category["notes"] == kept
    assert category["dropped"].get("duplicate", 0) == 6 - kept


def test_only_what_many_patients_share_is_on_the_page(tmp_path: Path, capfd) -> None:
    def note(patient: object, number: int) -> tuple:
        text = f"Reason for visit:\nVisit {number}.\n\n{PLANTED} Junior:\nDaughter {number}."
        return (patient, "ECG", "", text)

    shown = []
    for name, subjects in (
        ("one patient", [7] * 25), ("many", range(25)), ("nobody known", [""] * 25),
    ):  # fmt: skip
        notes = [note(subject, number) for number, subject in enumerate(subjects)]
        source = write_notes(tmp_path / f"{name}.csv", notes)
        out = tmp_path / name
        assert run(capfd, input_file=source, output_dir=out, category="ecg", **RULES)[0] == 0
        shown.append("Reason for visit" in (out / "data_report.html").read_text())
        assert (out / "ecg.txt").read_text().count(PLANTED) == 25
        assert (PLANTED in (out / "data_report.html").read_text()) == shown[-1]
        assert PLANTED not in (out / "manifest.json").read_text()
    assert shown == [False, True, False]


def test_a_column_of_words_names_nothing(tmp_path: Path, capfd) -> None:
    notes = [(n, f"{PLANTED} {n}" if n % 2 else "ECG", "", f"Note {n}.") for n in range(40)]
    source = write_notes(tmp_path / "n.csv", notes)
    out = tmp_path / "out"
    status, said, err = run(capfd, input_file=source, output_dir=out, category="all", **RULES)
    assert status == 0
    assert "20 notes have 20 values" in err and len(err.splitlines()) == 1
    assert [path.name for path in out.glob("*.txt")] == ["ecg.txt", "other_categories.txt"]
    assert len(documents(out / "other_categories.txt")) == len(documents(out / "ecg.txt")) == 20
    counted = json.loads((out / "manifest.json").read_text())["categories"]
    assert {name: counts["rows"] for name, counts in counted.items()} == {
        "ECG": 20, "other categories": 20,
    }  # fmt: skip
    for name in ("manifest.json", "data_report.html"):
        assert PLANTED not in (out / name).read_text()
    assert PLANTED not in said + err
    status, said, err = run(capfd, input_file=source, output_dir=tmp_path, category="EC", **RULES)
    assert status == 1
    assert "found 'ECG' and 20 others" in err and PLANTED not in err
