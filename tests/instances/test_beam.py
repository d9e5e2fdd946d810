"""create_pretraining_data --output_dir on Apache Beam: the shards of one machine."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from bert_clinical.instances.shards import STAGING_NAME
from data_prep.beam import launch as beam_launch
from data_prep.common import atomic_files
from tests.beam_pipelines import DIRECT, folder_bytes, job_service, processes
from tests.golden_data import golden
from tests.running import assert_one_line_error, run_here, run_program

MODULE = "bert_clinical.create_pretraining_data"
PLANTED = "Zanzibarquux"


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Four texts of different sizes, one gzip, and an empty one."""
    folder = tmp_path_factory.mktemp("text")
    documents = golden("sentences_en_core_web_sm.txt").read_text().split("\n\n")
    for number, size in enumerate((2, 7, 3)):
        text = "\n\n".join(documents[number * 2 : number * 2 + size]) + "\n"
        (folder / f"part-{number}.txt").write_text(text)
    (folder / "part-4.txt").touch()
    with gzip.open(folder / "part-3.txt.gz", "wt") as stream:
        stream.write("\n\n".join(documents[20:]) + "\n")
    return {
        "input_file": f"{folder}/part-*", "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": "false", "dupe_factor": 2, "max_seq_length": 64,
    }  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, flags: dict[str, object]) -> Path:
    folder = tmp_path_factory.mktemp("one")
    assert run_program(MODULE, output_dir=folder, **flags).returncode == 0
    return folder


@pytest.mark.slow
def test_missing_shards_are_made_as_on_one_machine(
    tmp_path: Path, capfd, monkeypatch, flags, one: Path
) -> None:
    counters: list[dict[str, int]] = []
    real = beam_launch.Launcher.run
    monkeypatch.setattr(
        beam_launch.Launcher,
        "run",
        lambda *args, **kwargs: counters.append(real(*args, **kwargs)),
    )
    out, report = tmp_path / "out", tmp_path / "new" / "report.html"
    result = run_here(capfd, MODULE, output_dir=out, report_file=report, **flags, **DIRECT)
    assert (result.returncode, result.stderr) == (0, "")
    assert "passed over 1 empty file(s)" in result.stdout
    assert folder_bytes(out) == folder_bytes(one)
    assert "part-2.txt" in report.read_text()
    sidecars = [json.loads(path.read_text())["counts"] for path in one.glob("*.json")]
    totals = {name: sum(counts[name] for counts in sidecars) for name in sidecars[0]}
    assert counters == [{"shards": 4, **{name: n for name, n in totals.items() if n}}]

    (out / "part-1.tfrecord").unlink()
    (out / "part-3.tfrecord.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("part-[02]*")}
    result = run_here(capfd, MODULE, output_dir=out, **flags, **DIRECT)
    assert (result.returncode, result.stderr) == (0, "")
    assert "2 of 4 shards are there already" in result.stdout
    assert folder_bytes(out) == folder_bytes(one)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}

    with (out / "part-0.tfrecord").open("r+b") as damaged:
        damaged.seek(500)
        damaged.write(b"\xff\xee\xdd\xcc")
    result = run_here(capfd, MODULE, output_dir=out, **flags, **DIRECT)
    assert result.returncode == 0
    assert "part-0.tfrecord is not what its sidecar vouches for" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "3 of 4 shards are there already" in result.stdout
    assert folder_bytes(out) == folder_bytes(one)

    with atomic_files.held(out, "create_pretraining_data --runner", together=True):
        result = run_here(capfd, MODULE, output_dir=out, **flags, **DIRECT)
    assert_one_line_error(result, 1, "another create_pretraining_data writes there")

    other = {**flags, "dupe_factor": 3, **DIRECT}
    result = run_here(capfd, MODULE, output_dir=out, **other)
    assert_one_line_error(result, 1, "dupe_factor (2, now 3)")
    assert folder_bytes(out) == folder_bytes(one)


@pytest.mark.slow
def test_worker_processes_make_the_same(tmp_path: Path, flags, one: Path) -> None:
    result = run_program(MODULE, output_dir=tmp_path / "two", **flags, **processes(2))
    assert (result.returncode, result.stderr) == (0, "")
    with job_service(tmp_path) as service:
        result = run_program(MODULE, output_dir=tmp_path / "job", **flags, **service)
    assert (result.returncode, result.stderr) == (0, "")
    assert folder_bytes(tmp_path / "two") == folder_bytes(tmp_path / "job") == folder_bytes(one)


@pytest.mark.slow
def test_other_file_systems(tmp_path: Path, capfd, monkeypatch, flags, one: Path) -> None:
    monkeypatch.setenv("TEST_FILES", str(tmp_path))
    shutil.copytree(Path(str(flags["input_file"])).parent, tmp_path / "in")
    shutil.copy(str(flags["vocab_file"]), tmp_path / "in" / "vocab.txt")
    there = {
        **flags, **DIRECT, "pipeline_options": "--beam_plugins=tests.beam_test_files",
        "input_file": "test://in/part-*", "vocab_file": "test://in/vocab.txt",
    }  # fmt: skip
    for _ in range(2):
        result = run_here(capfd, MODULE, output_dir="test://out", **there)
        assert (result.returncode, result.stderr) == (0, "")
    assert "4 of 4 shards are there already" in result.stdout
    for name, content in folder_bytes(tmp_path / "out").items():
        if name.endswith(".tfrecord"):
            assert content == (one / name).read_bytes()
    sidecar = json.loads((tmp_path / "out" / "part-3.tfrecord.json").read_text())
    assert sidecar["inputs"][0]["path"] == "test://in/part-3.txt.gz"
    assert sidecar["flags"]["vocab_file"] == "test://in/vocab.txt"
    assert list(folder_bytes(tmp_path / "out")) == list(folder_bytes(one))


def test_a_failing_shard_is_named_and_leaves_the_others(
    tmp_path: Path, capfd, flags, one: Path
) -> None:
    shutil.copytree(Path(str(flags["input_file"])).parent, tmp_path / "text")
    (tmp_path / "text" / "part-1.txt").write_bytes(b"fine\n" + PLANTED.encode() + b"\xff\n")
    bad = {**flags, "input_file": f"{tmp_path}/text/part-*"}
    expected = run_here(capfd, MODULE, output_dir=tmp_path / "one", **bad)
    result = run_here(capfd, MODULE, output_dir=tmp_path / "out", **bad, **DIRECT)
    assert_one_line_error(result, 1, "1 of 4 shards", "part-1.txt, line 2: not UTF-8")
    assert result.stderr == expected.stderr
    assert PLANTED not in result.stdout + result.stderr
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "one")
    assert not (tmp_path / "out" / STAGING_NAME).exists()


@pytest.mark.parametrize(
    ("wrong", "fragment"),
    [
        ({"num_workers": 2}, "--direct_num_workers"),
        ({"output_file": "x.tfrecord", "output_dir": None}, "--output_dir"),
        ({"stats_only": "true"}, "leave out --runner"),
        ({"runner": None, "pipeline_options": "--x"}, "give --runner too"),
    ],
)
def test_mistakes_on_the_command_line(
    tmp_path: Path, capfd, flags, wrong: dict, fragment: str
) -> None:
    result = run_here(capfd, MODULE, **{"output_dir": tmp_path / "out", **flags, **DIRECT, **wrong})
    assert_one_line_error(result, 2, fragment)
    assert not (tmp_path / "out").exists()
