"""Starts run_pretraining as the workers of a TF_CONFIG, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.weights import checkpoint
from tests.golden_data import golden
from tests.running import ROOT, Process, arguments, free_port, start_python

FLAGS = {
    "input_file": golden("cased_128.tfrecord"),
    "do_train": True,
    "train_batch_size": 8,
    "num_train_steps": 20,
    "num_warmup_steps": 5,
    "learning_rate": 1e-3,
}

MODULE = ["-m", "bert_clinical.run_pretraining"]


def program_with(lines: str) -> list[str]:
    """Returns arguments for Python that run the program after some lines of a test's."""
    return [
        "-c",
        f"import sys\n{lines}\nfrom bert_clinical import run_pretraining\n"
        "from data_prep.common import program\n"
        "program.run(None, run_pretraining.define_flags, run_pretraining.main, sys.argv[1:])",
    ]


def one_layer(output_dir: Path) -> Path:
    """Returns the config of a model of one layer, beside the folder: two take twice the time."""
    path = output_dir.with_name("one_layer.json")
    if not path.exists():
        config = json.loads(golden("model/bert_config.json").read_text())
        path.write_text(json.dumps({**config, "num_hidden_layers": 1}))
    return path


def start(
    output_dir: Path,
    code: Sequence[str] = MODULE,
    tf_config: str = "",
    before: Sequence[str] = (),
    **changes: Any,
) -> Process:
    """Starts the program with `FLAGS` and these changes, on a model of one layer.

    Args:
      output_dir: the run's folder.
      code: what Python runs.
      tf_config: for a worker.
      before: a command that runs the command behind it, such as `nice`.
      **changes: flags.
    """
    config_file = one_layer(output_dir)
    flags = {**FLAGS, "bert_config_file": config_file, "output_dir": output_dir, **changes}
    env = {"TF_CONFIG": tf_config} if tf_config else {}
    if not before:
        return start_python(*code, *arguments(**flags), env=env)
    return subprocess.Popen(
        [*before, sys.executable, *code, *arguments(**flags)],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tf_configs(count: int = 2) -> list[str]:
    """Returns a TF_CONFIG for each worker, at ports that are free."""
    addresses = [f"localhost:{free_port()}" for _ in range(count)]
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def start_workers(
    output_dir: Path, *, second: dict[str, Any] | None = None, **changes: Any
) -> list[Process]:
    """Starts two workers; `second` changes what the second is given, as arguments of `start`."""
    configs = tf_configs()
    return [
        start(**{"output_dir": output_dir, "tf_config": config, **changes, **own})
        for config, own in zip(configs, ({}, second or {}), strict=True)
    ]


def start_worker_code(code: str) -> list[Process]:
    """Starts two workers that run other code than the program."""
    return [start_python("-c", code, env={"TF_CONFIG": config}) for config in tf_configs()]


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
