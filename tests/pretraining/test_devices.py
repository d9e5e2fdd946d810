"""Several devices and several processes give the weights of one, and a lost one ends the others."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.pretraining import devices
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.weights import checkpoint
from data_prep.common.errors import UserError
from tests.golden_data import golden
from tests.programs.test_run_pretraining import wait_for
from tests.running import ROOT, arguments, assert_one_line_error, assert_success

FLAGS = {
    "bert_config_file": golden("model/bert_config.json"),
    "input_file": golden("cased_128.tfrecord"),
    "do_train": True,
    "train_batch_size": 8,
    "num_train_steps": 20,
    "num_warmup_steps": 5,
    "learning_rate": 1e-3,
}

# A process of its own: the CPU can be divided only before TensorFlow has used it.
TWO_CPUS = """
import sys
from bert_clinical.nn.tensorflow import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from bert_clinical import devices, run_pretraining
devices.strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
from data_prep import program
program.run(None, run_pretraining.define_flags, run_pretraining.main, sys.argv[1:])
"""


def start(
    output_dir: Path, code: list[str], tf_config: str = "", **changes: object
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *code, *arguments(**{**FLAGS, **changes}, output_dir=output_dir)],
        cwd=ROOT,
        env={**os.environ, **({"TF_CONFIG": tf_config} if tf_config else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_workers(output_dir: Path, **changes: object) -> list[subprocess.Popen[str]]:
    with socket.socket() as one, socket.socket() as other:
        for s in (one, other):
            s.bind(("localhost", 0))
        workers = [f"localhost:{s.getsockname()[1]}" for s in (one, other)]
    module = ["-m", "bert_clinical.run_pretraining"]
    return [
        start(
            output_dir,
            module,
            json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
            **changes,
        )
        for index in range(2)
    ]


def assert_same_weights(one: Path, other: Path) -> None:
    found, expected = (
        checkpoint.read_tensors(checkpoint.resolve_checkpoint(path)) for path in (one, other)
    )
    for name, value in expected.items():
        # Slots and the biases of keys may hold nothing but rounding noise.
        if not name.endswith(("adam_m", "adam_v", "key/bias")):
            assert np.abs(found[name] - value).max() <= 1e-5 * max(np.abs(value).max(), 1e-3), name


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    assert_success(finished(start(folder, ["-m", "bert_clinical.run_pretraining"])))
    return folder


@pytest.mark.slow
def test_two_devices_that_take_their_shares_in_parts_are_as_one(
    tmp_path: Path, single: Path
) -> None:
    assert_success(finished(start(tmp_path, ["-c", TWO_CPUS], gradient_accumulation_steps=2)))
    assert_same_weights(tmp_path, single)


@pytest.mark.slow
def test_two_workers_are_as_one(tmp_path: Path, single: Path) -> None:
    for worker in start_workers(tmp_path):
        assert_success(finished(worker))
    assert_same_weights(tmp_path, single)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_a_lost_worker_ends_the_other_and_both_go_on(tmp_path: Path, single: Path) -> None:
    workers = start_workers(tmp_path, save_checkpoints_steps=1, keep_checkpoint_max=0)
    wait_for(tmp_path / "model.ckpt-3.index", workers[0])
    workers[1].kill()
    finished(workers[1])
    result = finished(workers[0])
    if result.returncode:
        assert_one_line_error(result, 1, "another worker", "go on from the last checkpoint")
    for worker in start_workers(tmp_path, save_checkpoints_steps=1, keep_checkpoint_max=0):
        assert_success(finished(worker))
    assert_same_weights(tmp_path, single)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_after_the_same_step(tmp_path: Path) -> None:
    """First to the one that writes nothing; then, when all went on from there, to the other."""
    changes = {"num_train_steps": 100000, "save_checkpoints_steps": 10}
    next_save, steps = 10, []
    for asked in (1, 0):
        workers = start_workers(tmp_path, **changes)
        wait_for(tmp_path / f"model.ckpt-{next_save}.index", workers[0])
        workers[asked].send_signal(signal.SIGTERM)
        results = [finished(worker) for worker in workers]
        for result in results:
            assert result.returncode == 128 + signal.SIGTERM, result.stdout + result.stderr
            assert result.stderr == ""
        latest = checkpoint.latest_checkpoint(tmp_path)
        assert latest is not None
        steps.append(checkpoint.checkpoint_step(latest))
        for result in results:
            assert f"Stopped by signal 15 after step {steps[-1]};" in result.stdout
        assert f"goes on from {latest}" in results[0].stdout
        next_save = steps[-1] // 10 * 10 + 10
    assert f"at step {steps[0]}" in results[0].stdout
    assert 10 <= steps[0] < steps[1]


def test_batches_must_be_divisible(monkeypatch: pytest.MonkeyPatch) -> None:
    class Three:
        num_replicas_in_sync = 3

    devices.require_equal_shares(None, TrainingOptions(train_batch_size=7))
    devices.require_equal_shares(Three(), TrainingOptions(train_batch_size=9))
    with pytest.raises(UserError, match="multiple of 6"):
        options = TrainingOptions(train_batch_size=9, gradient_accumulation_steps=2)
        devices.require_equal_shares(Three(), options)
    monkeypatch.setenv("TF_CONFIG", "[not json")
    with pytest.raises(UserError, match="TF_CONFIG"):
        devices.strategy()
