"""A fine-tuning run that is stopped goes on to the same bits; what it keeps meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.tasks import training
from bert_clinical.tasks.checkpoints import (
    Epoch,
    TrainingFolder,
    TrainingProgress,
    digest_of_examples,
    digest_of_weights,
)
from bert_clinical.tasks.data import Encoded
from bert_clinical.tasks.model import TaskModel
from data_prep.common.errors import UserError
from data_prep.common.stopping import Stopped, StopRequest
from tests.tasks.test_model import OPTIONS, examples, model


class StopAfter(StopRequest):
    """Asks for an end at a later look."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def raise_if_asked(self) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise Stopped(15)


def run(folder: TrainingFolder | None, stop: StopRequest, **changes: Any) -> tuple[Any, TaskModel]:
    """Trains for four epochs of 2, 2, 3 and 2 updates; an evaluation looks twice for a stop."""
    network = model(per_token=False, dropout=0.2)
    inputs = examples(per_token=False)

    def evaluate() -> dict[str, float]:
        logits = training.predict(network, inputs, 4, stop)
        loss = training.mean_loss(inputs, logits)
        # The third epoch is the best, though the loss falls on.
        return {"accuracy": -abs(network.variables["output_bias"].numpy().sum()), "loss": loss}

    done = training.fine_tune(
        model=network, examples=inputs, options=replace(OPTIONS, **changes), evaluate=evaluate,
        metric="accuracy", folder=folder, stop=stop,
    )  # fmt: skip
    return done, network


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    expected, whole = run(None, StopRequest())
    folder = TrainingFolder(tmp_path / "out", {"--learning_rate": 1e-2})
    with folder.held("run_test"):
        # Before the first update; after one; in the evaluation of the first epoch; after it; late.
        for looks in (0, 1, 2, 3, 9):
            with pytest.raises(Stopped):
                run(folder, StopAfter(looks))
            assert len(list(folder.path.glob("*.index"))) == 1
        done, network = run(folder, StopRequest())
    assert done.epochs == expected.epochs
    assert done.best == expected.best
    for name, value in whole.variables.items():
        assert np.array_equal(network.variables[name].numpy(), value.numpy()), name


def test_what_is_left_after_the_training_is_not_trained_again(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out", {})
    with folder.held("run_test"):
        done, network = run(folder, StopRequest(), num_train_epochs=1)
        folder.write(done.progress, network.variables)
        again, other = run(folder, StopAfter(0), num_train_epochs=1)
        assert again.epochs == done.epochs
        for name, value in network.variables.items():
            assert np.array_equal(other.variables[name].numpy(), value.numpy()), name
        folder.remove()
    assert not list(tmp_path.iterdir())


def test_checkpoints_come_as_often_as_asked(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out", {})
    steps = []
    folder.write = lambda progress, tensors: steps.append(progress.step)  # type: ignore[method-assign]
    with folder.held("run_test"):
        training.fine_tune(
            model=model(per_token=False), examples=examples(per_token=False), options=OPTIONS,
            folder=folder, save_every=4,
        )  # fmt: skip
    assert steps == [4, 8]


def progress(step: int = 3) -> TrainingProgress:
    return TrainingProgress(
        step, [0.1, 1 / 3], [Epoch(1, 1, 0.7, {"f": 0.5})], 1, {"a/b": np.ones(2, np.float32)}
    )


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out", {"--seed": 3})
    tensors = {"a/b": np.arange(2, dtype=np.float32), "a/b/adam_m": np.zeros(2, np.float32)}
    with folder.held("run_test"):
        assert folder.read() is None
        folder.write(progress(1), tensors)
        folder.write(progress(), tensors)
        found, weights = folder.read() or pytest.fail("nothing kept")
        assert sorted(path.name for path in folder.path.iterdir()) == [
            "model.ckpt-3-1.data-00000-of-00001", "model.ckpt-3-1.index", "progress.json",
        ]  # fmt: skip
    assert (found.step, found.losses, found.epochs) == (3, [0.1, 1 / 3], progress().epochs)
    assert (found.best, found.finished) == (1, False)
    assert np.array_equal(found.best_weights["a/b"], [1, 1])
    assert {n: v.tolist() for n, v in weights.items() if n != "global_step"} == {
        "a/b": [0, 1], "a/b/adam_m": [0, 0],
    }  # fmt: skip


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out", {"--learning_rate": 1e-5, "--random_seed": 1})
    with folder.held("run_test"):
        folder.write(progress(), {})
    other = TrainingFolder(tmp_path / "out", {"--learning_rate": 1e-3, "--random_seed": 1})
    with pytest.raises(
        UserError, match=r"began with another --learning_rate.*remove .*out\.training"
    ):
        other.read()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"settings": {}, "step": "x"}'])
def test_a_damaged_record_is_named(content: str, tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out", {})
    folder.path.mkdir()
    (folder.path / "progress.json").write_text(content)
    with pytest.raises(UserError, match=r"progress\.json.*remove .*out\.training to begin anew"):
        folder.read()


def test_what_a_kill_left_before_the_record_is_removed(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out", {})
    with folder.held("run_test"):
        folder.write(progress(), {})
        (folder.path / "progress.json").unlink()
        (folder.path / "model.ckpt-9-1.0123abcd.partial").mkdir()
        (folder.path / "model.ckpt-9-1.0123abcd.partial" / "model.ckpt-9-1.index").touch()
        assert folder.read() is None
        assert not list(folder.path.iterdir())
    assert not folder.path.exists()


def test_two_runs_of_one_output_are_kept_apart(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out", {})
    with (
        folder.held("run_test"),
        pytest.raises(UserError, match="another run_test writes there"),
        TrainingFolder(tmp_path / "out", {}).held("run_test"),
    ):
        pass


def test_digests_tell_data_and_weights() -> None:
    first = [Encoded([1, 2], [0, 0], [1]), Encoded([3], [0], [0])]
    assert digest_of_examples(first) == digest_of_examples(list(first))
    for other in (
        first[::-1],
        [Encoded([1], [2, 0], [0, 1]), first[1]],
        [Encoded([1, 2], [0, 0], [0]), first[1]],
    ):
        assert digest_of_examples(other) != digest_of_examples(first)
    weights = {"a": np.zeros([2, 3], np.float32)}
    assert digest_of_weights(weights) != digest_of_weights({"a": np.zeros([3, 2], np.float32)})
    assert digest_of_weights(weights) != digest_of_weights({"b": weights["a"]})
    assert json.dumps(digest_of_weights(weights))
