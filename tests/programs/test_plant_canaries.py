"""`plant_canaries` as its user runs it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bert_clinical.tfrecords.sidecars import read_sidecar
from data_prep.canaries import record
from data_prep.canaries.canary import read_canaries
from data_prep.common.input_files import find_local_files
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here, run_program

MODULE = "data_prep.plant_canaries"
SMALL = {"num_canaries": 2, "repetitions": "0,1,4"}


def text_file(folder: Path, documents: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "text.txt"
    path.write_text("".join(f"Quixzandorph {n}.\nStable.\n\n" for n in range(documents)))
    return path


def plant(capsys: pytest.CaptureFixture[str], source: Path, folder: Path, **flags):
    return run_here(
        capsys, MODULE,
        **{"input_file": source, "output_file": folder / "planted.txt",
           "canaries_file": folder / "canaries.json", **SMALL, **flags},
    )  # fmt: skip


def test_text_file_and_manifest_agree_and_nobody_else_knows(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    (tmp_path / "in" / "manifest.json").write_text(
        json.dumps({"program": "data_prep.format_notes", "counts": {"notes": 20}})
    )
    flags = {"output_file": tmp_path / "out" / "a.txt", "canaries_file": tmp_path / "c.json"}
    result = run_program(MODULE, input_file=source, **flags, **SMALL)
    assert_success(result)
    assert not result.stderr
    canaries = read_canaries(tmp_path / "c.json").canaries
    got = (tmp_path / "out" / "a.txt").read_text().split("\n")
    for canary in canaries:
        assert got.count(canary.text) == canary.repetitions
    assert (tmp_path / "c.json").stat().st_mode & 0o777 == 0o600

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "manifest.json"]
    said = record.of_text(str(tmp_path / "out" / "a.txt"))
    (name,) = said["sets"]
    assert said == {"planted_sentences": 10, "sets": {name: {"0": 2, "1": 2, "4": 2}}}
    assert name == read_canaries(tmp_path / "c.json").name
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert json.loads(manifest)["counts"] == {"notes": 20}
    assert record.of_text(str(source)) is None
    for said_somewhere in (result.stdout, manifest):
        assert "Quixzandorph" not in said_somewhere
        for canary in canaries:
            assert canary.text not in said_somewhere
            assert " ".join(canary.secret) not in said_somewhere


def test_the_manifest_of_the_folder_is_kept(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"program": "p", "outputs": [1]}))
    assert_success(plant(capsys, source, tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["program"] == "p" and manifest["outputs"] == [1]
    assert set(manifest["canaries"]) == {"planted.txt"}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    made = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert_success(plant(capsys, source, tmp_path / name, random_seed=seed))
        made.append([(tmp_path / name / f).read_bytes() for f in ("planted.txt", "canaries.json")])
    assert made[0] == made[1]
    assert made[0][0] != made[2][0]


def test_a_gzip_text_is_read(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    packed = tmp_path / "in" / "text.txt.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    for name, path in (("a", source), ("b", packed)):
        assert_success(plant(capsys, path, tmp_path / name))
    made = [(tmp_path / name / "planted.txt").read_bytes() for name in "ab"]
    assert made[0] == made[1]
    # The file of canaries may lie beside the text, and is none.
    found = find_local_files(str(tmp_path / "a"), "input_file")
    assert [path.name for path in found] == ["planted.txt"]


def test_other_canaries_are_not_written_over(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    assert_success(plant(capsys, source, tmp_path))
    made = (tmp_path / "canaries.json").read_bytes()
    others = {"random_seed": 7, "output_file": tmp_path / "other.txt"}
    result = plant(capsys, source, tmp_path, **others)
    assert_one_line_error(result, 1, "canaries.json holds other canaries", "choose another name")
    assert (tmp_path / "canaries.json").read_bytes() == made
    assert not (tmp_path / "other.txt").exists()
    # The same ones can be written again, and what is damaged is of no use to anybody.
    assert_success(plant(capsys, source, tmp_path))
    (tmp_path / "canaries.json").write_bytes(made[:-9])
    assert_success(plant(capsys, source, tmp_path, **others))


def test_a_text_with_canaries_gets_no_others(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    assert_success(plant(capsys, source, tmp_path / "a"))
    result = plant(capsys, tmp_path / "a" / "planted.txt", tmp_path / "b", random_seed=7)
    assert_one_line_error(result, 1, "--input_file", "planted.txt holds canaries already")
    assert not list((tmp_path / "b").glob("*"))


def test_whose_the_documents_are_stays_known(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    beside, copy = tmp_path / "in" / "text.txt.patients", tmp_path / "planted.txt.patients"
    beside.write_text("".join(f"p{n // 2}\n" for n in range(20)))
    assert_success(plant(capsys, source, tmp_path))
    assert copy.read_bytes() == beside.read_bytes()
    beside.unlink()
    assert_success(plant(capsys, source, tmp_path))
    assert not copy.exists()


def test_mistakes_are_one_line(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    archive = tmp_path / "text.zip"
    archive.write_bytes(b"PK\x03\x04 and so on")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    for flags, status, fragments in (
        ({"input_file": tmp_path / "none.txt"}, 1, ["--input_file", "none.txt"]),
        ({"input_file": empty}, 1, ["empty.txt", "found no text"]),
        ({"input_file": f"{source},{empty}"}, 1, ["names 2 files; expected one"]),
        ({"input_file": archive}, 1, ["text.zip", "is a zip archive"]),
        ({"output_file": source}, 1, ["--output_file", "is --input_file too"]),
        ({"canaries_file": source}, 1, ["--canaries_file", "is --input_file too"]),
        ({"canaries_file": tmp_path / "out" / "planted.txt"}, 1, ["is --output_file too"]),
        ({"output_file": tmp_path / "out" / "manifest.json"}, 1, ["is the manifest too"]),
        ({"output_file": tmp_path}, 1, ["is a folder"]),
        ({"output_file": source / "x.txt"}, 1, [f"--output_file: {source} is a file; a folder"]),
        ({"canaries_file": source / "x"}, 1, [f"--canaries_file: {source} is a file; a folder"]),
        ({"output_file": damaged / "x.txt"}, 1, ["manifest.json", "broken JSON"]),
        ({"repetitions": "1,21"}, 1, ["21 documents", "has 20"]),
        ({"repetitions": "x"}, 2, ["--repetitions"]),
        ({"num_canaries": 0}, 2, ["num_canaries"]),
        ({"num_canaries": 999}, 2, ["--num_canaries=999"]),
    ):
        result = plant(capsys, source, tmp_path / "out", **flags)
        assert_one_line_error(result, status, *fragments)
        assert "Quixzandorph" not in result.stdout + result.stderr
        assert not (tmp_path / "out" / "planted.txt").exists()
    required = run_here(capsys, MODULE, input_file=source)
    assert_one_line_error(required, 2, "--output_file and --canaries_file are missing")


def test_the_examples_say_that_their_text_holds_canaries(tmp_path: Path, capsys) -> None:
    source = text_file(tmp_path / "in")
    assert_success(plant(capsys, source, tmp_path / "out"))
    text, plain = tmp_path / "out" / "planted.txt", tmp_path / "out" / "plain.txt"
    plain.write_text(source.read_text())
    flags = {"vocab_file": golden("vocab_cased.txt"), "do_lower_case": False, "max_seq_length": 32}
    said = record.of_text(str(text))
    for shard, expected in ((text, said), (plain, None)):
        made = tmp_path / "made" / f"{shard.stem}.tfrecord"
        result = run_here(
            capsys, "bert_clinical.create_pretraining_data", input_file=shard,
            output_dir=made.parent, **flags,
        )  # fmt: skip
        assert_success(result)
        assert read_sidecar(made).get("canaries") == expected
        told = "canaries: 10 planted sentences of 4 canaries" in result.stdout
        assert told == (expected is not None)
    both = tmp_path / "both.tfrecord"
    flags["input_file"] = f"{plain},{text}"
    result = run_here(capsys, "bert_clinical.create_pretraining_data", output_file=both, **flags)
    assert_success(result)
    assert read_sidecar(both)["canaries"] == said
