"""format_notes on Apache Beam: the files of one machine, whoever makes them, whatever happens."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.beam import launch as beam_launch
from data_prep.common import files as beam_files
from data_prep.common import lease
from data_prep.common.errors import UserError
from data_prep.formatting import work_folder as work_shards
from data_prep.formatting.beam import results as beam_results
from tests.beam_pipelines import DIRECT, folder_bytes, job_service, processes
from tests.format_notes_program import (
    PLANTED,
    RULES,
    SPACY_MODEL,
    made_up_notes,
    run,
    write_notes,
)
from tests.running import (
    ROOT,
    arguments,
    assert_one_line_error,
    finished,
    run_program,
    wait_until,
)

MODULE = "data_prep.format_notes"
SDK_WORKER = b"apache_beam.runners.worker.sdk_worker_main"


def repeated_notes(count: int, seed: int = 0) -> list[tuple]:
    """Notes of which some are copies of earlier ones, white space or a few words aside."""
    rng = random.Random(seed)
    notes = made_up_notes(count, seed)
    for place in rng.sample(range(1, count), count // 3):
        subject, category, error, _ = notes[place]
        text = notes[rng.randrange(place)][3]
        if rng.random() < 0.5:
            text = f"{text.upper()}  " if rng.random() < 0.5 else f"{text} Addendum {place}."
        notes[place] = (subject, category, error, text)
    return notes


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A plain CSV with bad rows and a byte order mark, a gzip one, and a Parquet file."""
    import pyarrow.csv
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("notes")
    notes = repeated_notes(300)
    plain = write_notes(folder / "a.csv", notes[:150])
    lines = plain.read_bytes()
    plain.write_bytes(b"\xef\xbb\xbf" + lines + b'7,1,A\n\n8,1,A,,"two\nlines \xff"\n' + GOOD)
    other = write_notes(folder / "b.csv", notes[150:220])
    (folder / "b.csv.gz").write_bytes(gzip.compress(other.read_bytes()))
    rest = write_notes(folder / "c.csv", notes[220:])
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(rest, parse_options=options)
    pyarrow.parquet.write_table(table, folder / "c.parquet", row_group_size=17)
    other.unlink()
    rest.unlink()
    return f"{folder}/*.csv,{folder}/*.gz,{folder}/*.parquet"


GOOD = f'9,1,Physician,,"A {PLANTED} note."\n'.encode()


def common(sources: str) -> dict[str, object]:
    return {
        "input_file": sources, "category": "all", "num_shards": 3, "held_out_fraction": 0.2,
        "skip_bad_rows": "true", **RULES,
    }  # fmt: skip


def canaries_of(folder: Path) -> list[dict]:
    return list(json.loads((folder / "manifest.json").read_text())["canaries"].values())


@pytest.mark.parametrize(
    "deduplicate",
    ["none", *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("exact", "near"))],
)
def test_files_are_those_of_one_machine(
    tmp_path: Path, capfd, sources: str, deduplicate: str
) -> None:
    flags = {**common(sources), "deduplicate": deduplicate, "near_duplicate_threshold": 0.6}
    if deduplicate == "none":
        flags |= {"num_canaries": 2, "repetitions": "1,15"}
        flags["plant_canaries"] = canaries = tmp_path / "canaries.json"
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    kept = canaries.read_bytes() if deduplicate == "none" else b""
    status, out, err = run(capfd, output_dir=tmp_path / "beam", **flags, **DIRECT)
    assert (status, err) == (0, "")
    assert PLANTED not in out
    if deduplicate == "none":
        assert canaries.read_bytes() == kept
        assert sum(f["planted_sentences"] for f in canaries_of(tmp_path / "beam")) == 32
        other = {**flags, **DIRECT, "repetitions": "1,4", "output_dir": tmp_path / "other"}
        status, _, err = run(capfd, **other)
        assert status == 1 and "holds other canaries" in err
        assert canaries.read_bytes() == kept
        assert not list((tmp_path / "other").glob("*.txt"))
    made = folder_bytes(tmp_path / "beam")
    assert made == folder_bytes(tmp_path / "one")
    manifest = json.loads(made["manifest.json"])
    assert sum(manifest["bad_rows"].values()) == 2
    assert (manifest["dropped"].get("duplicate", 0) > 30) == (deduplicate != "none")
    assert "runner" not in manifest["flags"]


@pytest.mark.slow
def test_done_again_nothing_is_done_but_what_is_missing(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(30))
    flags = {"input_file": source, "category": "all", "num_shards": 2, **RULES}
    assert run(capfd, output_dir=tmp_path / "beam", **flags)[0] == 0
    made = folder_bytes(tmp_path / "beam")
    status, out, err = run(capfd, output_dir=tmp_path / "beam", **flags, **DIRECT)
    assert (status, err) == (0, "")
    assert "complete already" in out
    # A kill between the manifest and the removal of the work.
    marker = tmp_path / "beam" / work_shards.STAGING_NAME / "assembling.json"
    for runner in (DIRECT, {}):
        marker.parent.mkdir()
        marker.write_text("{}")
        assert run(capfd, output_dir=tmp_path / "beam", **flags, **runner)[0] == 0
        assert folder_bytes(tmp_path / "beam") == made
    (tmp_path / "beam" / "physician-00001-of-00002.txt").unlink()
    assert run(capfd, output_dir=tmp_path / "beam", **flags, **DIRECT)[0] == 0
    assert folder_bytes(tmp_path / "beam") == made


@pytest.mark.slow
def test_any_number_of_processes_makes_the_same(tmp_path: Path, capfd, sources: str) -> None:
    flags = {**common(sources), "deduplicate": "near"}
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    for workers in (1, 2, 4):
        result = run_program(MODULE, output_dir=tmp_path / "beam", **flags, **processes(workers))
        assert (result.returncode, result.stderr) == (0, ""), workers
        assert PLANTED not in result.stdout
        assert folder_bytes(tmp_path / "beam") == folder_bytes(tmp_path / "one"), workers
        shutil.rmtree(tmp_path / "beam")


@pytest.mark.slow
def test_a_job_service_with_worker_processes_makes_the_same(
    tmp_path: Path, capfd, sources: str
) -> None:
    flags = {**common(sources), "deduplicate": "exact"}
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    with job_service(tmp_path) as service:
        result = run_program(MODULE, output_dir=tmp_path / "beam", **flags, **service)
    assert (result.returncode, result.stderr) == (0, "")
    assert folder_bytes(tmp_path / "beam") == folder_bytes(tmp_path / "one")


@pytest.mark.slow
def test_a_pool_of_other_versions_is_told(tmp_path: Path, monkeypatch) -> None:
    # A plugin is imported by the process that asks the pool for workers.
    (tmp_path / "older.py").write_text(
        "from data_prep.beam import worker_pool as beam_worker_pool\n"
        "beam_worker_pool.versions = lambda: {'apache-beam': '1.0'}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    with job_service(tmp_path) as service:
        service["pipeline_options"] += " --beam_plugins=older"
        result = run_program(
            MODULE, input_file=source, output_dir=tmp_path / "out", **RULES, **service
        )
    assert_one_line_error(result, 1, "apache-beam", "in place of 1.0", "the same installation")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.slow
def test_spacy_is_what_it_is_on_one_machine(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(30))
    flags = {"input_file": source, "category": "physician", "spacy_model": SPACY_MODEL}
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    status, _, err = run(capfd, output_dir=tmp_path / "beam", **flags, **DIRECT)
    assert (status, err) == (0, "")
    assert folder_bytes(tmp_path / "beam") == folder_bytes(tmp_path / "one")


def workers_below(pid: int) -> list[int]:
    """Returns the workers of one run; another test may have some of its own."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                found += workers_below(child)
            except OSError:
                continue
            if SDK_WORKER in command and command[0] != b"/bin/sh":
                found.append(child)
    return found


def is_running(pid: int) -> bool:
    try:
        return SDK_WORKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_and_leaves_nothing_wrong(tmp_path: Path, capfd) -> None:
    source = tmp_path / "n.csv"
    made = run_program("data_prep.sample_notes", output_file=source, num_notes=2500)
    assert made.returncode == 0
    flags = {"input_file": source, "category": "all", "num_shards": 2, **RULES}
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, *arguments(output_dir=out, **flags, **processes(2))],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    survey = f"{work_shards.STAGING_NAME}/runs/*/survey.json"
    wait_until(lambda: list(out.glob(survey)), process)
    # What a worker takes for its imports lies below.
    wait_until(lambda: any(cpu_seconds(pid) > 2 for pid in workers_below(process.pid)), process)
    workers = workers_below(process.pid)
    os.kill(max(workers, key=cpu_seconds), signal.SIGKILL)
    result = finished(process)
    assert_one_line_error(result, 1, "worker process died")
    assert not list(out.iterdir())
    assert not [pid for pid in workers if is_running(pid)]

    assert run(capfd, output_dir=out, **flags, **processes(2))[::2] == (0, "")
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    assert folder_bytes(out) == folder_bytes(tmp_path / "one")


@contextlib.contextmanager
def a_run_that_lives(folder: Path) -> Iterator[None]:
    """Renews a lease in a folder, as a run on another machine does."""
    path, over = folder / lease.NAME, threading.Event()

    def renew() -> None:
        count = 0
        while not over.wait(0.05):
            count += 1
            partial = folder / "partial"
            partial.write_text(json.dumps({"run": "0123456789abcdef", "renewed": count}))
            partial.replace(path)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        while not path.exists():
            time.sleep(0.01)
        yield
    finally:
        over.set()
        thread.join()
        path.unlink()


@pytest.mark.slow
def test_other_file_systems(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setenv("TEST_FILES", str(tmp_path))
    (tmp_path / "in").mkdir()
    notes = repeated_notes(60)
    write_notes(tmp_path / "in" / "a.csv", notes[:40])
    other = write_notes(tmp_path / "in" / "b.csv", notes[40:])
    (tmp_path / "in" / "b.csv.gz").write_bytes(gzip.compress(other.read_bytes()))
    other.unlink()
    flags = {"category": "all", "num_shards": 2, "deduplicate": "exact", **RULES}
    here = f"{tmp_path}/in/a.csv,{tmp_path}/in/b.csv.gz"
    assert run(capfd, input_file=here, output_dir=tmp_path / "one", **flags)[0] == 0
    runner = {**DIRECT, "pipeline_options": "--beam_plugins=tests.beam_test_files"}
    there = {"input_file": "test://in/*.csv*", "output_dir": "test://out/beam", **flags, **runner}
    for said in ("file(s) in test://out/beam", "complete already"):
        status, out, err = run(capfd, **there)
        assert (status, err) == (0, "")
        assert said in out
        assert folder_bytes(tmp_path / "out" / "beam") == folder_bytes(tmp_path / "one")
    with a_run_that_lives(tmp_path / "out" / "beam"):
        status, _, err = run(capfd, **there)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "test://out/beam: another format_notes writes there, run 01234567" in err
    status, _, err = run(capfd, **{**there, "num_shards": 3})
    assert status == 1
    assert "--num_shards was 2, is 3" in err
    status, _, err = run(capfd, **{**there, "input_file": "test://nowhere/*.csv"})
    assert status == 1
    assert "no file matches test://nowhere/*.csv" in err
    status, _, err = run(capfd, **{**there, "output_dir": "floppy://disk"})
    assert status == 2
    assert "no file system floppy://" in err


MISTAKES = {
    "bad row": GOOD + b"2,1,A\n",
    "bad row in a quote": GOOD + b'2,1,A,,"\nopen\n',
    "bytes": GOOD * 700 + b"2,1,A,,\xff\n",
    "no subject": GOOD + b"2,,A,,x\n",
    "no text": b"1,1,Physician,,----\n",
    "empty": b"",
    "unknown category": GOOD.replace(b"Physician", b"Radiology"),
    "categories are none": b"".join(b"%d,1,A %d,,x\n" % (n, n) for n in range(600)),
}


@pytest.mark.parametrize("mistake", [*MISTAKES, "no column", "no such file", "no model"])
def test_mistakes_are_told_as_on_one_machine(tmp_path: Path, capfd, mistake: str) -> None:
    source = tmp_path / "n.csv"
    header = b"ROW_ID,SUBJECT_ID,CATEGORY,ISERROR,TEXT\n"
    source.write_bytes(header + MISTAKES.get(mistake, GOOD))
    flags = {
        "input_file": source, "category": "physician", "held_out_fraction": 0.5, **RULES,
        "output_dir": tmp_path / "out",
    }  # fmt: skip
    if mistake == "no column":
        source.write_bytes(source.read_bytes().replace(b"TEXT", b"BODY"))
    elif mistake == "no such file":
        flags["input_file"] = tmp_path / "nowhere.csv"
    elif mistake == "no model":
        flags |= {"sentence_splitter": "spacy", "spacy_model": "no_such_model"}
    expected = run(capfd, **flags)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    status, out, err = run(capfd, **flags, **DIRECT)
    assert status == 1
    assert (status, err) == (expected[0], expected[2])
    assert PLANTED not in out + err
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("flags", "fragment"),
    [
        ({"num_workers": 2}, "--direct_num_workers"),
        ({"runner": "MarathonRunner"}, "Beam has no MarathonRunner"),
        ({"runner": ""}, "an empty name"),
        ({"runner": None, "pipeline_options": "--x"}, "give --runner too"),
        ({"pipeline_options": "--runner=FlinkRunner"}, "give it as --runner"),
        ({"pipeline_options": "--x='"}, "close each quote"),
        ({"pipeline_options": "--direct_num_workers=many"}, "invalid int value: 'many'"),
        ({"pipeline_options": "--direct_num_wrkers=2"}, "did you mean --direct_num_workers?"),
        ({"pipeline_options": "direct_num_workers=2"}, "'direct_num_workers=2'; expected --NAME"),
        ({"pipeline_options": "--output_executable_path=x.jar"}, "leave it out"),
        ({"input_file": None, "input_sql": "sqlite:///n.db", "sql_table": "n"}, "export the table"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path: Path, capfd, flags: dict, fragment: str) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(3))
    everything = {"input_file": source, "output_dir": tmp_path / "out", **RULES, **DIRECT, **flags}
    status, _, err = run(capfd, **everything)
    assert (status, len(err.splitlines())) == (2, 1), err
    assert fragment in err


def test_without_beam_one_line_says_how_to_install_it(tmp_path: Path, capfd, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "apache_beam" else real(name)
    )
    source = write_notes(tmp_path / "n.csv", made_up_notes(3))
    status, _, err = run(capfd, input_file=source, output_dir=tmp_path / "out", **RULES, **DIRECT)
    assert status == 1
    assert "pip install 'apache-beam>=2.77,<2.78'" in err


# A plugin is imported by every worker: what goes wrong within a step is planted by it.
SABOTAGE = """
from data_prep import sectioning

def split(text, rules):
    raise {error}(text)

sectioning.split_sections = split
"""


@pytest.mark.parametrize("error", ["ValueError", "OSError"])
def test_an_unexpected_failure_quotes_nothing(
    tmp_path: Path, capfd, monkeypatch, error: str
) -> None:
    (tmp_path / "sabotage.py").write_text(SABOTAGE.format(error=error))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    result = run_program(
        MODULE, input_file=source, output_dir=tmp_path / "out", category="all", **RULES,
        runner="DirectRunner", pipeline_options="--beam_plugins=sabotage",
    )  # fmt: skip
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert error in result.stderr
    assert PLANTED not in result.stdout + result.stderr
    assert not list(tmp_path.glob("out/*"))


def test_work_left_unfinished_without_a_runner_is_not_touched(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    (tmp_path / "out" / work_shards.FOLDER_NAME).mkdir(parents=True)
    status, _, err = run(capfd, input_file=source, output_dir=tmp_path / "out", **RULES, **DIRECT)
    assert status == 1
    assert "without --runner" in err


def test_work_left_unfinished_with_a_runner_is_not_touched(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    (tmp_path / "out" / work_shards.STAGING_NAME).mkdir(parents=True)
    status, _, err = run(
        capfd, input_file=source, output_dir=tmp_path / "out", category="all", **RULES
    )
    assert status == 1
    assert "with --runner" in err


@pytest.mark.slow
def test_files_that_begin_to_appear_are_gone_on_with(tmp_path: Path, capfd, monkeypatch) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(20))
    flags = {"input_file": source, "category": "all", "num_shards": 2, **RULES, **DIRECT}
    assert run(capfd, output_dir=tmp_path / "whole", **flags)[0] == 0
    out = tmp_path / "out"
    real = beam_files.replace

    def replace(source: str, destination: str) -> None:
        if destination.endswith("nursing_other-00001-of-00002.txt"):
            raise KeyboardInterrupt
        real(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(beam_files, "replace", replace)
        assert run(capfd, output_dir=out, **flags)[0] == 130
    assert list(out.glob("*.txt"))
    assert not (out / "manifest.json").exists()
    status, _, err = run(capfd, output_dir=out, **{**flags, "section_rules": "published"})
    assert status == 1
    assert "--section_rules was fixed, is published" in err
    status, _, err = run(capfd, output_dir=out, **flags)
    assert (status, err) == (0, "")
    assert folder_bytes(out) == folder_bytes(tmp_path / "whole")


def test_workers_that_see_other_files_than_the_program_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other files for them than for this program"):
        beam_results.read_text(str(tmp_path))


def test_counters_are_numbers_and_reasons(tmp_path: Path, capfd, monkeypatch) -> None:
    seen: dict[str, int] = {}
    real = beam_launch.Launcher.run
    monkeypatch.setattr(
        beam_launch.Launcher,
        "run",
        lambda *args, **kwargs: seen.update(real(*args, **kwargs)),
    )
    source = write_notes(tmp_path / "n.csv", [*made_up_notes(40), (1, "Physician", "1", "x")])
    out = tmp_path / "out"
    status, _, _ = run(capfd, input_file=source, output_dir=out, category="all", **RULES, **DIRECT)
    assert status == 0
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert seen == {**counts, "dropped: entered in error": 1}
