"""create_pretraining_data with several lengths: one pass over the text, the outputs of two runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bert_clinical.instances import writer
from bert_clinical.tfrecords.sidecars import read_sidecar
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here

MODULE = "bert_clinical.create_pretraining_data"
LENGTHS = {32: 5, 67: 11}


def flags_of(texts: Path, **more: Any) -> dict[str, Any]:
    return {
        "input_file": f"{texts}/part-*.txt", "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": False, "dupe_factor": 2, "random_seed": 7, **more,
    }  # fmt: skip


def both(out: Path) -> dict[str, Any]:
    """Returns the flags that name both lengths and a folder for each."""
    return {
        "max_seq_length": ",".join(map(str, LENGTHS)),
        "max_predictions_per_seq": ",".join(map(str, LENGTHS.values())),
        "output_dir": ",".join(str(out / str(length)) for length in LENGTHS),
    }


def content(folder: Path) -> dict[str, bytes]:
    """Returns what each file of a folder and its folders holds."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    documents = golden("sentences_en_core_web_sm.txt").read_text().split("\n\n")
    for number, size in enumerate((2, 9, 4)):
        text = "\n\n".join(documents[number * 2 : number * 2 + size]) + "\n"
        (folder / f"part-{number}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def alone(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run for each length makes."""
    from tests.running import exit_status_here

    folder = tmp_path_factory.mktemp("alone")
    for length, predictions in LENGTHS.items():
        status = exit_status_here(
            MODULE,
            **flags_of(texts, max_seq_length=length, max_predictions_per_seq=predictions),
            output_dir=folder / str(length),
        )
        assert status == 0
    return content(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_length_is_what_a_run_of_its_own_makes(
    workers: int,
    texts: Path,
    alone: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run_here(capsys, MODULE, **flags_of(texts, **both(tmp_path)), num_workers=workers)
    assert_success(result)
    assert content(tmp_path) == alone
    assert len(alone) == 12
    assert "67/part-1.tfrecord: " in result.stdout
    assert "part-0.txt, length 32:" in result.stdout


def test_the_text_is_read_once(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = []
    read_corpus = writer.read_corpus

    def counted(**arguments: Any) -> Any:
        read.extend(Path(path).name for path in arguments["input_files"])
        return read_corpus(**arguments)

    monkeypatch.setattr(writer, "read_corpus", counted)
    assert_success(run_here(capsys, MODULE, **flags_of(texts, **both(tmp_path))))
    assert sorted(read) == ["part-0.txt", "part-1.txt", "part-2.txt"]


def test_only_what_is_missing_of_a_length_is_made(
    texts: Path, alone: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a run of the first length alone that was killed, and one of both."""
    flags = flags_of(texts, **both(tmp_path))
    first = {"max_seq_length": 32, "max_predictions_per_seq": 5, "output_dir": tmp_path / "32"}
    assert_success(run_here(capsys, MODULE, **flags_of(texts, **first)))
    (tmp_path / "32" / "part-1.tfrecord").unlink()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "32").iterdir()}
    result = run_here(capsys, MODULE, **flags)
    assert_success(result)
    assert "2 of 6 shards are there already" in result.stdout
    assert content(tmp_path) == alone
    kept = {path.name for path, time in times.items() if path.stat().st_mtime_ns == time}
    assert {name.split(".")[0] for name in kept} == {"part-0", "part-2"}
    result = run_here(capsys, MODULE, **flags)
    assert_success(result)
    assert "6 of 6 shards are there already" in result.stdout
    other = {**flags, "max_seq_length": "32,70"}
    assert_one_line_error(
        run_here(capsys, MODULE, **other), 1, "67/part-0.tfrecord", "max_seq_length (67, now 70)"
    )
    assert content(tmp_path) == alone


def test_a_text_that_cannot_be_read_leaves_the_others(
    texts: Path, alone: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = tmp_path / "text", tmp_path / "out"
    shutil.copytree(texts, broken)
    (broken / "part-1.txt").write_bytes(b"fine\n\xff\n")
    result = run_here(capsys, MODULE, **flags_of(broken, **both(out)))
    assert_one_line_error(result, 1, "1 of 3 shards", "part-1.txt, line 2: not UTF-8")
    made = content(out)
    assert len(made) == 8
    for name, value in made.items():
        if name.endswith(".tfrecord"):
            assert value == alone[name]


def test_counts_and_report_of_each_length(
    texts: Path, alone: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del alone
    flags = flags_of(texts, **both(tmp_path / "out"), report_file=tmp_path / "report.html")
    assert_success(run_here(capsys, MODULE, **flags))
    page = (tmp_path / "report.html").read_text()
    # The shards and their sum, for each length.
    assert page.count("<svg") == 8
    assert "length 32, 5 predictions and length 67, 11 predictions" in page
    for length in LENGTHS:
        sidecars = [read_sidecar(path) for path in (tmp_path / "out" / str(length)).glob("*d")]
        instances = sum(sidecar["counts"]["instances"] for sidecar in sidecars if sidecar)
        tile = f"<b>{instances:,}</b><span>instances (length {length})</span>"
        assert tile in page
    counted = run_here(
        capsys, MODULE, "--stats_only",
        **{**flags, "output_dir": None, "report_file": tmp_path / "again.html"},
    )  # fmt: skip
    assert_success(counted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.html", "out", "report.html"]
    whole = (tmp_path / "again.html").read_text()
    assert "part-0.txt, part-1.txt, part-2.txt (length 67)" in whole


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        ({"max_predictions_per_seq": 5}, ["--max_seq_length names 2", "_seq names 1"]),
        ({"max_seq_length": "32,4"}, ["--max_seq_length is 4", "at least 5"]),
        ({"max_seq_length": "32,"}, ["--max_seq_length", "several with commas between"]),
        ({"max_seq_length": f"32,{1 << 70}"}, ["--max_seq_length", "at most 64 bits"]),
        ({"output_dir": "a"}, ["names 2 lengths and --output_dir 1 folder(s)"]),
        ({"output_dir": "a,"}, ["names 2 lengths and --output_dir 1 folder(s)"]),
        ({"output_dir": "a,b,c"}, ["names 2 lengths and --output_dir 3 folder(s)"]),
        ({"output_dir": "a,./b/../a"}, ["--output_dir names a folder twice"]),
        ({"output_dir": None, "output_file": "a,b"}, ["--output_file takes examples of one"]),
        ({"runner": "DirectRunner"}, ["--runner makes the examples of one length"]),
    ],
)  # fmt: skip
def test_mistakes(
    flags: dict[str, Any],
    fragments: list[str],
    texts: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    good = flags_of(texts, **both(Path()))
    assert_one_line_error(run_here(capfd, MODULE, **{**good, **flags}), 2, *fragments)
    assert not list(tmp_path.iterdir())
