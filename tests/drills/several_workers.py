"""Kills workers at random moments for an hour, then compares with a run that nobody disturbed.

    python -m tests.drills.several_workers [--minutes 60] [--seed 1] [--steps 2000] [--folder DIR]

Two workers with default flags but for a checkpoint every 100 steps; the second has one core, a low
priority and an input that pauses. A start makes some steps of its own, then one worker or both are
killed, stopped by a signal, or frozen for a while. Each end must be a line or a clean stop. When
the run has reached its last step it begins anew in another folder, until the time is over.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from bert_clinical.weights import checkpoint
from tests.pretraining.training_workers import (
    assert_same_weights,
    program_with,
    start,
    start_workers,
)
from tests.running import Process, finished, wait_until

PAUSES = """
import random, time
from bert_clinical.pretraining.batches import Batches
take = Batches.take
def slowly(self, *steps):
    time.sleep(random.uniform(0, 0.5))
    return take(self, *steps)
Batches.take = slowly
"""


def newest_step(folder: Path) -> int:
    """Returns the step of the newest checkpoint, 0 where there is none."""
    names = [path.stem for path in folder.glob("model.ckpt-*.index") if ".partial" not in path.name]
    return max((int(name.rpartition("-")[2]) for name in names), default=0)


def disturb(workers: list[Process], draw: random.Random) -> str:
    """Does something to one worker or both; returns what."""
    what = draw.choice(["kill", "kill", "stop", "freeze"])
    chosen = draw.choice([workers[:1], workers[1:], workers])
    name = f"{what} {[workers.index(worker) for worker in chosen]}"
    for worker in chosen:
        if what == "kill":
            worker.kill()
        elif what == "stop":
            worker.send_signal(signal.SIGTERM)
        else:
            worker.send_signal(signal.SIGSTOP)
    if what == "freeze":
        time.sleep(draw.uniform(1, 30))
        for worker in chosen:
            worker.send_signal(signal.SIGCONT)
    return name


def _is_disturbable(folder: Path, before: int, workers: list[Process]) -> bool:
    """Tells whether a start has saved something of its own, or has ended already."""
    return newest_step(folder) > before or any(worker.poll() is not None for worker in workers)


def one_run(folder: Path, settings: dict[str, int], draw: random.Random, end: float) -> int:
    """Trains to the last step, disturbed until the time is over; returns the disturbances."""
    core = str(min(os.sched_getaffinity(0)))
    slow = {"code": program_with(PAUSES), "before": ["nice", "-n", "5", "taskset", "-c", core]}
    disturbances = 0
    while newest_step(folder) < settings["num_train_steps"]:
        before = newest_step(folder)
        workers = start_workers(folder, second=slow, **settings)
        if time.monotonic() < end:
            wait_until(partial(_is_disturbable, folder, before, workers))
            time.sleep(draw.uniform(0, 3))
            name = disturb(workers, draw)
            disturbances += 1
        else:
            name = "left alone"
        results = [finished(worker) for worker in workers]
        statuses = [result.returncode for result in results]
        print(f"step {before} to {newest_step(folder)}: {name}: {statuses}", flush=True)
        for result in results:
            assert result.returncode in (0, 1, -signal.SIGKILL, 128 + signal.SIGTERM), result
            assert len(result.stderr.splitlines()) == (result.returncode == 1), result.stderr
        assert checkpoint.latest_checkpoint(folder) is not None
    assert not list(folder.glob("*.partial*"))
    return disturbances


def main() -> None:
    """Runs the drill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--folder", help="kept afterwards; a temporary one unless given")
    values = parser.parse_args()
    settings = {
        "num_train_steps": values.steps,
        "num_warmup_steps": values.steps // 10,
        "save_checkpoints_steps": 100,
        "learning_rate": 1e-4,
    }
    draw = random.Random(values.seed)
    end = time.monotonic() + 60 * values.minutes
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(values.folder or temporary)
        assert finished(start(folder / "whole", **settings)).returncode == 0
        runs = disturbances = 0
        while runs == 0 or time.monotonic() < end:
            disturbances += one_run(folder / f"run-{runs}", settings, draw, end)
            assert_same_weights(folder / f"run-{runs}", folder / "whole", tolerance=1e-3)
            runs += 1
            print(f"run {runs}: the weights are those of one worker undisturbed", flush=True)
    print(f"{runs} run(s) of {values.steps} steps, {disturbances} disturbances: all well")


if __name__ == "__main__":
    main()
