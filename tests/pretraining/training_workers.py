"""Starts run_pretraining as the workers of a TF_CONFIG, on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.weights import checkpoint
from tests.golden_data import golden
from tests.running import ROOT, arguments

FLAGS = {
    "bert_config_file": golden("model/bert_config.json"),
    "input_file": golden("cased_128.tfrecord"),
    "do_train": True,
    "train_batch_size": 8,
    "num_train_steps": 20,
    "num_warmup_steps": 5,
    "learning_rate": 1e-3,
}

HANG_SECONDS = 1200.0
"""Nothing that a test waits for takes as long, however busy the machine is."""

MODULE = ["-m", "bert_clinical.run_pretraining"]


def program_with(lines: str) -> list[str]:
    """Returns arguments for Python that run the program after some lines of a test's."""
    return [
        "-c",
        f"import sys\n{lines}\nfrom bert_clinical import run_pretraining\n"
        "from data_prep.common import program\n"
        "program.run(None, run_pretraining.define_flags, run_pretraining.main, sys.argv[1:])",
    ]


def start(
    output_dir: Path,
    code: Sequence[str] = MODULE,
    tf_config: str = "",
    before: Sequence[str] = (),
    **changes: Any,
) -> subprocess.Popen[str]:
    """Starts the program with `FLAGS` and these changes.

    Args:
      output_dir: the run's folder.
      code: what Python runs.
      tf_config: for a worker.
      before: a command that runs the command behind it, such as `nice`.
      **changes: flags.
    """
    flags = {**FLAGS, "output_dir": output_dir, **changes}
    return subprocess.Popen(
        [*before, sys.executable, *code, *arguments(**flags)],
        cwd=ROOT,
        env={**os.environ, **({"TF_CONFIG": tf_config} if tf_config else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tf_configs(count: int = 2) -> list[str]:
    """Returns a TF_CONFIG for each worker, at ports that are free now."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def start_workers(
    output_dir: Path, *, second: dict[str, Any] | None = None, **changes: Any
) -> list[subprocess.Popen[str]]:
    """Starts two workers; `second` changes what the second is given, as arguments of `start`."""
    configs = tf_configs()
    return [
        start(**{"output_dir": output_dir, "tf_config": config, **changes, **own})
        for config, own in zip(configs, ({}, second or {}), strict=True)
    ]


def start_worker_code(code: str) -> list[subprocess.Popen[str]]:
    """Starts two workers that run other code than the program."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "TF_CONFIG": config},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for config in tf_configs()
    ]


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Returns how a process ended."""
    out, err = process.communicate(timeout=HANG_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_until(condition: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    """Waits until something holds, while all the processes run."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the processes hang"
        time.sleep(0.02)


def assert_same_weights(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Checks that two runs' latest weights are equal but for rounding, each to its largest."""
    found, expected = (
        checkpoint.read_tensors(checkpoint.resolve_checkpoint(path)) for path in (one, other)
    )
    assert found["global_step"] == expected["global_step"]
    for name, value in expected.items():
        # Slots and the biases of keys may hold nothing but rounding noise.
        if not name.endswith(("adam_m", "adam_v", "key/bias")):
            largest = max(np.abs(value).max(), 1e-3)
            assert np.abs(found[name] - value).max() <= tolerance * largest, name
