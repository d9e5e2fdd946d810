"""Several workers give the weights of one, whatever befalls one of them, or all end with a line."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bert_clinical.weights import checkpoint
from bert_clinical.weights.provenance import best_checkpoint
from tests.golden_data import golden
from tests.pretraining.training_workers import (
    MODULE,
    assert_same_weights,
    program_with,
    start,
    start_workers,
)
from tests.programs.test_run_pretraining import small_disk
from tests.running import Process, assert_one_line_error, assert_success, finished, wait_until

pytestmark = pytest.mark.slow

# The limit for a step is so low that any wait of the tests below would reach it.
IMPATIENT = """
from bert_clinical.pretraining import worker_cluster
worker_cluster._LEAST_SECONDS_WITHOUT_A_STEP = 5.0
"""


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    assert_success(finished(start(folder)))
    return folder


Runs = dict[Path, list[Process]]


@pytest.fixture(scope="module")
def slow_chiefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Workers that wait for half a minute, beside the tests in between, for one that is slow."""
    slow_at_first = f"""{IMPATIENT}
import time
from bert_clinical.pretraining import evaluation
from bert_clinical.pretraining.state import TrainingState
def slow_at_first(work):
    seconds = iter([35])
    def slow(*arguments):
        time.sleep(next(seconds, 0))
        return work(*arguments)
    return slow
"""
    slow = {
        "save": "TrainingState.save = slow_at_first(TrainingState.save)",
        "evaluation": "evaluation.means = slow_at_first(evaluation.means)",
    }
    runs: Runs = {}
    for name, line in slow.items():
        folder = tmp_path_factory.mktemp("slow") / name
        runs[folder] = start_workers(
            folder, code=program_with(slow_at_first + line), do_eval=True, eval_every=20,
            eval_input_file=golden("cased_128.tfrecord"), max_eval_steps=2,
        )  # fmt: skip
    yield runs
    for worker in itertools.chain.from_iterable(runs.values()):
        worker.kill()


@pytest.mark.usefixtures("slow_chiefs")
def test_two_workers_are_as_one(tmp_path: Path, single: Path) -> None:
    for worker in start_workers(tmp_path):
        assert_success(finished(worker))
    assert_same_weights(tmp_path, single)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_workers_of_unequal_speed_make_the_same_calls(tmp_path: Path) -> None:
    """Their clocks differ, and it is seconds that divide the steps into calls.

    One worker has a single core, a low priority, and an input that pauses.
    """
    short_calls = """
from bert_clinical.pretraining import loop as training
training._SECONDS_PER_CALL = 0.3
"""
    pauses = """
import random, time
from bert_clinical.pretraining.batches import Batches
take = Batches.take
def slowly(self, *steps):
    time.sleep(random.uniform(0, 0.2))
    return take(self, *steps)
Batches.take = slowly
"""
    settings = {"num_train_steps": 300, "num_warmup_steps": 30, "learning_rate": 1e-4}
    core = str(min(os.sched_getaffinity(0)))
    workers = start_workers(
        tmp_path / "two", code=program_with(short_calls), **settings,
        second={
            "code": program_with(short_calls + pauses),
            "before": ["nice", "-n", "5", "taskset", "-c", core],
        },
    )  # fmt: skip
    for worker in workers:
        assert_success(finished(worker))
    assert_success(finished(start(tmp_path / "one", **settings)))
    assert_same_weights(tmp_path / "two", tmp_path / "one", tolerance=1e-4)


def test_a_lost_worker_ends_the_other_and_both_go_on(tmp_path: Path, single: Path) -> None:
    flags = {"save_checkpoints_steps": 1, "keep_checkpoint_max": 0}
    workers = start_workers(tmp_path, num_train_steps=100000, **flags)
    wait_until((tmp_path / "model.ckpt-3.index").exists, *workers)
    workers[1].kill()
    finished(workers[1])
    result = finished(workers[0])
    assert_one_line_error(
        result, 1, "another worker", "worker 1 (localhost:", "no answer",
        "go on from the last checkpoint",
    )  # fmt: skip
    # As if there had been no more steps than the rest of the test makes.
    for path in tmp_path.glob("model.ckpt-*"):
        if int(path.suffixes[0].partition("-")[2]) > 3:
            path.unlink()
    for name in ("checkpoint", "training_flags.json"):
        (tmp_path / name).unlink()
    for worker in start_workers(tmp_path, **flags):
        result = finished(worker)
        assert_success(result)
        assert "at step 3" in result.stdout
    assert_same_weights(tmp_path, single)


def test_a_signal_to_one_worker_stops_all_after_the_same_step(tmp_path: Path) -> None:
    """First to the one that writes nothing; then, when all went on from there, to the other."""
    flags = {"num_train_steps": 100000, "save_checkpoints_steps": 10}
    next_save, steps = 10, []
    for asked in (1, 0):
        workers = start_workers(tmp_path, **flags)
        wait_until((tmp_path / f"model.ckpt-{next_save}.index").exists, *workers)
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


def test_workers_that_differ_are_refused(tmp_path: Path) -> None:
    """By every flag that differs, with both values; and by the content of what flags name."""
    changes = {"learning_rate": 0.5, "random_seed": 7, "train_batch_size": 4, "log_every": 3}
    results = [finished(worker) for worker in start_workers(tmp_path / "flags", second=changes)]
    expected = ("0.001 at worker 0", "12345 at worker 0", "8 at worker 0", "100 at worker 0")
    for result in results:
        for (name, value), chiefs in zip(changes.items(), expected, strict=True):
            assert_one_line_error(result, 1, f"--{name} is {chiefs}", f" and {value} at worker 1")

    data = shutil.copy(golden("cased_128.tfrecord"), tmp_path / "same.tfrecord")
    other = golden("wwm_128.tfrecord")
    for second, status in (({"input_file": data}, 0), ({"input_file": other}, 1)):
        folder = tmp_path / str(status)
        results = [finished(worker) for worker in start_workers(folder, second=second)]
        for result in results:
            if status:
                assert_one_line_error(result, 1, "--input_file is 1,440 examples", "sha256")
            else:
                assert_success(result)


def test_a_stalled_worker_ends_all_with_a_line(tmp_path: Path) -> None:
    stall = """
import threading
from bert_clinical.pretraining.batches import Batches
take = Batches.take
def once_too_often(self, *steps):
    if self._next_step > 12:
        threading.Event().wait()
    return take(self, *steps)
Batches.take = once_too_often
"""
    workers = start_workers(
        tmp_path, code=program_with(IMPATIENT), second={"code": program_with(IMPATIENT + stall)},
        iterations_per_loop=1, save_checkpoints_steps=10, num_train_steps=1000,
    )  # fmt: skip
    results = [finished(worker) for worker in workers]
    stalled = [result for result in results if "no step was made for 5 s" in result.stderr]
    assert stalled
    for result in results:
        assert_one_line_error(result, 1, "from the last checkpoint")
    for result in stalled:
        assert "after step 1" in result.stderr
    assert checkpoint.latest_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-10")


def test_others_wait_for_the_chief_as_long_as_it_takes(slow_chiefs: Runs, single: Path) -> None:
    """A save and an evaluation of half a minute: beyond TensorFlow's limits and our own."""
    for folder, workers in slow_chiefs.items():
        for worker in workers:
            assert_success(finished(worker))
        assert_same_weights(folder, single)
        assert (folder / "eval_results.txt").exists()


def test_the_chief_says_what_is_best_and_when_to_end(tmp_path: Path) -> None:
    """Only the chief evaluates; all save the best, and end where it ends."""
    losses = """
from bert_clinical.pretraining import evaluation
means, losses = evaluation.means, iter([5.0, 4.0, 4.5, 4.5])
evaluation.means = lambda *arguments: {**means(*arguments), "masked_lm_loss": next(losses)}
"""
    flags = {
        "num_train_steps": 100, "eval_every": 5, "max_eval_steps": 2, "stop_after_no_gain": 2,
        "eval_input_file": golden("cased_128.tfrecord"), "keep_checkpoint_max": 1,
    }  # fmt: skip
    workers = start_workers(tmp_path, code=program_with(losses), second={"code": MODULE}, **flags)
    for worker in workers:
        result = finished(worker)
        assert_success(result)
        assert "model.ckpt-20: the last 2 evaluations brought no lower" in result.stdout
    kept = sorted(path.name for path in tmp_path.glob("*.index"))
    assert kept == ["model.ckpt-10.index", "model.ckpt-20.index"]
    assert best_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-10")
    for worker in start_workers(tmp_path, **flags):
        result = finished(worker)
        assert_success(result)
        assert "--stop_after_no_gain=2 ends the run there" in result.stdout
    assert sorted(path.name for path in tmp_path.glob("*.index")) == kept


def test_a_full_disk_at_the_chief_is_told_to_all(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m"):
        run = tmp_path / "disk" / "run"
        workers = start_workers(run, save_checkpoints_steps=1, keep_checkpoint_max=0)
        results = [finished(worker) for worker in workers]
        assert checkpoint.latest_checkpoint(run) is not None
        assert not list(run.glob("*.partial*"))
    # Its log may fill the disk before a checkpoint does.
    assert_one_line_error(results[0], 1, "free some space")
    chiefs = results[0].stderr.removeprefix("run_pretraining: error: ")
    assert_one_line_error(results[1], 1, "worker 0 (localhost:", f"ended the run: {chiefs.strip()}")


def test_a_checkpoint_that_one_worker_sees_later_is_awaited(tmp_path: Path, single: Path) -> None:
    """As folders on the network show files; here it is another folder, and filled later."""
    for worker in start_workers(tmp_path / "shared", num_train_steps=10):
        assert_success(finished(worker))
    own = tmp_path / "own"
    flags = {"allow_flag_changes": True, "second": {"output_dir": own}}
    workers = start_workers(tmp_path / "shared", **flags)
    wait_until((own / "workers" / "1" / "data_index.npz").exists, *workers)
    for path in sorted((tmp_path / "shared").glob("model.ckpt-10.*")):
        # Data before index; then each whole, as it is seen at other machines.
        threading.Event().wait(1)
        shutil.copy(path, own)
    for worker in workers:
        result = finished(worker)
        assert_success(result)
        assert "model.ckpt-10 at step 10" in result.stdout
    assert checkpoint.latest_checkpoint(tmp_path / "shared") == str(
        tmp_path / "shared" / "model.ckpt-20"
    )
