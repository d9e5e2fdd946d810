"""Programs killed at calls that change a file go on as if nothing had been: the drill, in short.

`tests/drills/kill_every_write.py` as a whole tries every call of every program.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.drills import kills
from tests.drills.kill_cases import CASES
from tests.running import HANG_SECONDS, ROOT
from tests.test_structure import PROGRAMS


def drill(cases: str, every: int, faults: str = "KILL") -> dict[str, tuple[int, int]]:
    """Returns the faults that were survived and tried, by case."""
    # In a process of its own: it forks, and TensorFlow cannot be forked once it has computed.
    ended = subprocess.run(
        [sys.executable, "-m", "tests.drills.kill_every_write", f"--cases={cases}",
         f"--every={every}", f"--faults={faults}", "--no_charts"],
        cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = re.findall(r"^(.+): (\d+) of (\d+) .+ survived", ended.stdout, re.MULTILINE)
    return {name: (int(survived), int(tried)) for name, survived, tried in found}


def test_every_program_is_killed() -> None:
    assert {case.module for case in CASES} == {*PROGRAMS, "run_scripts/quickstart.sh"} - {
        # Writes no file: it waits for Beam.
        "data_prep.worker_pool"
    }
    assert len({case.name for case in CASES}) == len(CASES)


def test_signals_and_full_disks_leave_nothing_unfinished() -> None:
    found = drill("sample_notes,compare_runs", every=6, faults="INT,TERM,FULL")
    assert found["all"][0] == found["all"][1] > 9


def test_a_program_that_hangs_is_told_and_ended(tmp_path: Path) -> None:
    def hang_somewhere() -> int:
        time.sleep(HANG_SECONDS)
        return 0

    with pytest.raises(TimeoutError, match=r"hangs .*: process \d+ .*\d+ hang_somewhere"):
        kills.run(hang_somewhere, tmp_path, log=tmp_path / "log", limit=0.5)


@pytest.mark.slow
def test_programs_without_tensorflow_survive_every_kill() -> None:
    cases = [
        "sample_notes", "format_notes shards", "create_vocab", "create_pretraining_data file",
        "create_pretraining_data dir", "compare_runs", "plant_canaries", "quickstart",
    ]  # fmt: skip
    found = drill(",".join(cases), every=1)
    assert found.keys() == {*cases, "all"}
    assert found["all"][1] > 100


@pytest.mark.slow
def test_training_and_workers_survive_some_kills() -> None:
    found = drill("run_pretraining,create_pretraining_data workers", every=150)
    assert found["run_pretraining"][1] > 0
    assert found["create_pretraining_data workers"][1] > 0
