"""Trains a tiny model for tens of thousands of steps: memory, files and speed stay flat.

    python -m tests.drills.soak [--steps 30000] [--kill_minutes 3] [--seed 1] [--folder DIR]

One run is left alone and watched. Then the same run is made again, killed every few minutes at a
random moment and started again; it must end with the same bits. Both save every 50 steps and
evaluate every 100, with dropout. What is watched is told as a line fitted to it: where it begins
after the first tenth, when everything has been used once, and what it gains until the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert_clinical.weights import checkpoint
from tests.drills.several_workers import newest_step
from tests.golden_data import golden
from tests.running import ROOT, arguments

SECONDS_BETWEEN_SAMPLES = 2.0
SAVE_EVERY, EVALUATE_EVERY = 50, 100
FLAT = {"memory": 0.05, "descriptors": 0.0, "files": 0.0, "processor's seconds a step": 0.2}
"""The most that each may gain over a run, as a share of what it begins with; of descriptors and
files one more, for they are seen at any moment of a save. Told and not judged are the clock's
seconds, on a shared machine its neighbours', and the files of libraries' own that stand open:
Matplotlib keeps open what fonts its pictures have needed so far."""


@dataclass(frozen=True)
class Sample:
    """A process and its folder at a moment.

    Attributes:
      seconds: of the clock.
      processor: seconds of the process on a processor.
      step: of the newest checkpoint.
      memory: resident bytes that are the process's own; pages of libraries come and go.
      descriptors: open ones, but for files of libraries' own.
      library_files: open ones.
      files: in the run's folder and below.
    """

    seconds: float
    processor: float
    step: int
    memory: int
    descriptors: int
    library_files: int
    files: int


def start(folder: Path, steps: int) -> subprocess.Popen[bytes]:
    """Starts the run, or goes on with it; what it says goes to a file."""
    config = json.loads(golden("model/bert_config.json").read_text())
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    folder.mkdir(parents=True, exist_ok=True)
    config_file = folder.parent / "bert_config.json"
    config_file.write_text(json.dumps(config))
    flags = arguments(
        bert_config_file=config_file, input_file=golden("cased_128.tfrecord"),
        eval_input_file=golden("cased_128.tfrecord"), output_dir=folder, do_train=True,
        train_batch_size=4, learning_rate=1e-4, num_train_steps=steps, num_warmup_steps=100,
        save_checkpoints_steps=SAVE_EVERY, eval_every=EVALUATE_EVERY, max_eval_steps=2,
    )  # fmt: skip
    with (folder.parent / f"{folder.name}.out").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "bert_clinical.run_pretraining", *flags],
            cwd=ROOT, stdout=output, stderr=output,
        )  # fmt: skip


def _target(descriptor: Path) -> str:
    """Returns what a descriptor stands for, "" where it has just been closed."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


def sample(process: subprocess.Popen[bytes], folder: Path) -> Sample | None:
    """Returns how things stand, None where the process has just ended."""
    own = Path("/proc") / str(process.pid)
    try:
        (memory,) = re.findall(r"RssAnon:\s*(\d+) kB", (own / "status").read_text())
        targets = [_target(entry) for entry in (own / "fd").iterdir()]
        # What follows the name, which may hold blanks, begins with the third field.
        times = (own / "stat").read_text().rpartition(")")[2].split()[11:13]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        # Gone, or about to be: then it has no memory any more.
        return None
    library_files = sum(target.startswith(f"{sys.prefix}/") for target in targets)
    return Sample(
        seconds=time.monotonic(),
        processor=sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
        step=newest_step(folder),
        memory=int(memory) * 1024,
        descriptors=len(targets) - library_files,
        library_files=library_files,
        files=sum(path.is_file() for path in folder.rglob("*") if ".partial" not in path.name),
    )


def watched(process: subprocess.Popen[bytes], folder: Path) -> list[Sample]:
    """Returns samples of a process until its end."""
    samples = []
    while process.poll() is None:
        now = sample(process, folder)
        if now is not None and now.step:
            samples.append(now)
        time.sleep(SECONDS_BETWEEN_SAMPLES)
    return samples


def killed_again_and_again(folder: Path, steps: int, minutes: float, draw: random.Random) -> int:
    """Makes the run with kills; returns how many there were."""
    kills = 0
    while newest_step(folder) < steps:
        before = newest_step(folder)
        process = start(folder, steps)
        # A start that is killed before it has saved anything makes no way.
        while newest_step(folder) == before and process.poll() is None:
            time.sleep(0.1)
        try:
            process.wait(timeout=60 * minutes * draw.uniform(0.5, 1.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, f"exit status {process.returncode}"
        print(f"step {before} to {newest_step(folder)}: {process.returncode}", flush=True)
    return kills


def fitted(steps: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Returns the line through the values at the first step, and what it gains to the last."""
    slope, begin = np.polyfit(np.array(steps) - steps[0], values, 1)
    return float(begin), float(slope * (steps[-1] - steps[0]))


def gains(samples: Sequence[Sample], steps: int) -> dict[str, tuple[float, float]]:
    """Returns of each thing watched where its line begins and what it gains."""
    later = [one for one in samples if one.step >= steps / 10]
    at = [one.step for one in later]
    found = {
        name: fitted(at, [getattr(one, name) for one in later])
        for name in ("memory", "descriptors", "library_files", "files")
    }
    # Of twenty stretches: a sample sees the newest checkpoint's step, some steps late.
    edges = later[:: max(1, len(later) // 20)]
    for name in ("seconds", "processor"):
        paces = [
            (b.step, (getattr(b, name) - getattr(a, name)) / (b.step - a.step))
            for a, b in itertools.pairwise(edges)
            if b.step > a.step
        ]
        label = "seconds a step" if name == "seconds" else "processor's seconds a step"
        found[label] = fitted(*zip(*paces, strict=True))
    return found


def assert_same_bits(one: Path, other: Path) -> None:
    """Checks that two runs' latest checkpoints hold the same."""
    found, expected = (
        checkpoint.read_tensors(checkpoint.resolve_checkpoint(path)) for path in (one, other)
    )
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def main() -> None:
    """Runs the drill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30000)
    parser.add_argument("--kill_minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="kept afterwards; a temporary one unless given")
    values = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(values.folder or temporary)
        process = start(folder / "whole", values.steps)
        samples = watched(process, folder / "whole")
        assert process.returncode == 0, f"exit status {process.returncode}"
        assert newest_step(folder / "whole") == values.steps
        found = gains(samples, values.steps)
        print(f"{len(samples)} samples of {values.steps} steps left alone")
        for name, (begin, gain) in found.items():
            print(f"{name:26} {begin:14,.4f} at first, {gain:+14,.4f} until the end", flush=True)
        shown = [f"{one.memory / 2**20:,.0f}" for one in samples[:: max(1, len(samples) // 10)]]
        print(f"memory from beginning to end, MiB: {' '.join(shown)}", flush=True)
        draw = random.Random(values.seed)
        kills = killed_again_and_again(folder / "killed", values.steps, values.kill_minutes, draw)
        assert kills, "the run was never killed; give fewer --kill_minutes"
        assert_same_bits(folder / "killed", folder / "whole")
        print(f"the same bits after {kills} kills", flush=True)
        for name, most in FLAT.items():
            begin, gain = found[name]
            assert gain <= most * begin + (name in ("descriptors", "files")), name


if __name__ == "__main__":
    main()
