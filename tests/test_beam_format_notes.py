"""format_notes on Apache Beam: the files of one machine, whoever makes them, whatever happens."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep import beam_format_notes
from tests.beam_pipelines import DIRECT, folder_bytes, job_service, processes
from tests.format_notes_program import (
    PLANTED,
    RULES,
    SPACY_MODEL,
    made_up_notes,
    run,
    write_notes,
)
from tests.programs import ROOT, arguments, run_program

MODULE = "data_prep.format_notes"


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


@pytest.mark.parametrize("deduplicate", ["none", "exact", "near"])
def test_files_are_those_of_one_machine(
    tmp_path: Path, capfd, sources: str, deduplicate: str
) -> None:
    flags = {**common(sources), "deduplicate": deduplicate, "near_duplicate_threshold": 0.6}
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    status, out, err = run(capfd, output_dir=tmp_path / "beam", **flags, **DIRECT)
    assert (status, err) == (0, "")
    assert PLANTED not in out
    made = folder_bytes(tmp_path / "beam")
    assert made == folder_bytes(tmp_path / "one")
    manifest = json.loads(made["manifest.json"])
    assert sum(manifest["bad_rows"].values()) == 2
    assert (manifest["dropped"].get("duplicate", 0) > 30) == (deduplicate != "none")
    assert "runner" not in manifest["flags"]

    status, out, err = run(capfd, output_dir=tmp_path / "beam", **flags, **DIRECT)
    assert (status, err) == (0, "")
    assert "complete already" in out
    (tmp_path / "beam" / "physician-00001-of-00003.txt").unlink()
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
        result = run_program(MODULE, output_dir=tmp_path / "beam", timeout=120, **flags, **service)
    assert (result.returncode, result.stderr) == (0, "")
    assert folder_bytes(tmp_path / "beam") == folder_bytes(tmp_path / "one")


@pytest.mark.slow
def test_spacy_is_what_it_is_on_one_machine(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(30))
    flags = {"input_file": source, "category": "physician", "spacy_model": SPACY_MODEL}
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    status, _, err = run(capfd, output_dir=tmp_path / "beam", **flags, **DIRECT)
    assert (status, err) == (0, "")
    assert folder_bytes(tmp_path / "beam") == folder_bytes(tmp_path / "one")


def worker_processes() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"apache_beam.runners.worker.sdk_worker_main" in command and command[0] != b"/bin/sh":
            found.append(int(entry.name))
    return found


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_and_leaves_nothing_wrong(tmp_path: Path, capfd) -> None:
    source = tmp_path / "n.csv"
    made = run_program("data_prep.sample_notes", output_file=source, num_notes=4000)
    assert made.returncode == 0
    flags = {"input_file": source, "category": "all", "num_shards": 2, **RULES}
    out = tmp_path / "out"
    others = set(worker_processes())
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, *arguments(output_dir=out, **flags, **processes(2))],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    at_work: list[int] = []
    while not at_work:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
        if list(out.glob(f"{beam_format_notes.FOLDER_NAME}/run-*/survey.json")):
            # What a worker takes for its imports lies below.
            mine = set(worker_processes()) - others
            at_work = [pid for pid in mine if cpu_seconds(pid) > 2.5]
    os.kill(at_work[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stdout + stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert "worker process died" in stderr
    assert not list(out.iterdir())
    assert not set(worker_processes()) - others

    assert run(capfd, output_dir=out, **flags, **processes(2))[::2] == (0, "")
    assert run(capfd, output_dir=tmp_path / "one", **flags)[0] == 0
    assert folder_bytes(out) == folder_bytes(tmp_path / "one")
