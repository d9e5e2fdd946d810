"""Training and evaluation against Google's, and against themselves after interruptions."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.precision import LossScale
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import evaluation, log, run, state
from bert_clinical.pretraining import loop as training
from bert_clinical.pretraining.batches import PretrainingData
from bert_clinical.pretraining.curves import draw_curves
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.run import require_same_run
from bert_clinical.weights import checkpoint
from bert_clinical.weights.provenance import best_checkpoint
from data_prep.common.errors import UserError
from data_prep.common.stopping import StopRequest
from tests.golden_data import golden

pytestmark = pytest.mark.usefixtures("without_curves")

TINY = TrainingOptions(
    train_batch_size=4, learning_rate=1e-3, num_train_steps=12, num_warmup_steps=3,
    save_checkpoints_steps=100, max_eval_steps=3, eval_batch_size=4, skip_padding=False,
)  # fmt: skip
"""Padding is computed: the graph that leaves it out takes half as long again to build."""


def config(**changes: Any) -> BertConfig:
    values = json.loads(golden("model/bert_config.json").read_text())
    return BertConfig.from_dict({**values, **changes})


SMALL = config(num_hidden_layers=1)
"""For what hangs on no layer: half of such a run's time goes into building the graph of two."""
DROPOUT = config(num_hidden_layers=1, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


@pytest.fixture
def with_curves(without_curves: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For who looks at the picture at the end of a run."""
    monkeypatch.setattr(log, "draw_curves", draw_curves)


def load(name: str, folder: Path) -> PretrainingData:
    folder.mkdir(parents=True, exist_ok=True)
    return PretrainingData(
        [golden(name)], config=config(), max_seq_length=128, max_predictions_per_seq=20,
        cache_folder=folder,
    )  # fmt: skip


def train(
    folder: Path,
    options: TrainingOptions = TINY,
    model: BertConfig = SMALL,
    data: str = "cased_128.tfrecord",
    **arguments: Any,
) -> training.TrainingResult:
    return training.train(
        config=model, options=options, data=load(data, folder), output_dir=folder,
        **arguments,
    )  # fmt: skip


def small_init(folder: Path) -> str:
    """Returns a checkpoint of golden weights for `SMALL`."""
    tensors = checkpoint.read_tensors(checkpoint.resolve_checkpoint(golden("model/init")))
    folder.mkdir()
    prefix = folder / "bert_model.ckpt"
    kept = {name: value for name, value in tensors.items() if "/layer_1/" not in name}
    checkpoint.write_checkpoint(prefix, kept)
    return str(prefix)


def changed(**changes: Any) -> TrainingOptions:
    return dataclasses.replace(TINY, **changes)


def unpadded(**changes: Any) -> TrainingOptions:
    """For what is about the numbers."""
    return changed(skip_padding=True, **changes)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return checkpoint.read_tensors(checkpoint.resolve_checkpoint(folder))


def largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Of each weight relative to its largest value.

    Attention does not depend on the keys' biases: their gradient is rounding noise, which AdamW
    makes into steps of the usual size. They and the slots are left out.
    """
    return max(
        np.abs(one[name] - other[name]).max() / max(np.abs(other[name]).max(), 1e-9)
        for name in other
        if not name.endswith(("adam_m", "adam_v", "key/bias", "global_step"))
    )


def assert_identical(one: Path, other: Path) -> None:
    found, expected = weights(one), weights(other)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_near_googles(found: dict[str, np.ndarray]) -> None:
    expected = checkpoint.read_tensors(checkpoint.resolve_checkpoint(golden("model/trained")))
    assert set(found) == set(expected)
    assert found["global_step"] == 20
    assert found["global_step"].dtype == np.int64
    for name, value in expected.items():
        # Attention does not depend on the keys' biases: their gradient is rounding noise of 1e-10,
        # which no two releases have in common; hence a floor below any gradient's size.
        floor = 1e-9 if name.endswith("adam_m") else 1e-18 if name.endswith("adam_v") else 0
        tolerance = max(1e-4 * np.abs(value).max(), floor)
        assert np.abs(found[name] - value).max() <= tolerance, name


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_twenty_steps_are_googles(tmp_path: Path, jit_compile: bool) -> None:
    train(
        tmp_path,
        unpadded(num_train_steps=20, num_warmup_steps=5, jit_compile=jit_compile),
        config(),
        data="one_example.tfrecord",
        init_checkpoint=checkpoint.resolve_checkpoint(golden("init_bertadam")),
    )
    assert_near_googles(weights(tmp_path))


@pytest.mark.slow
def test_goes_on_from_googles_own_checkpoint(tmp_path: Path) -> None:
    """Twenty more steps from Google's step 20 are near forty of ours."""
    options = unpadded(num_train_steps=40, num_warmup_steps=5)
    init = checkpoint.resolve_checkpoint(golden("model/init"))
    data = "one_example.tfrecord"
    # The schedule of the golden run ends at step 20; let ours rise and fall as that one did.
    train(tmp_path / "ours", unpadded(num_train_steps=20, num_warmup_steps=5), config(), data,
          init_checkpoint=init)  # fmt: skip
    google = shutil.copytree(golden("model/trained"), tmp_path / "google")
    for folder in (tmp_path / "ours", google):
        result = train(folder, options, config(), data)
        assert result.step == 40
    assert largest_difference(weights(google), weights(tmp_path / "ours")) < 1e-4


def test_evaluation_is_googles(tmp_path: Path) -> None:
    expected = dict(
        line.split(" = ") for line in golden("eval_results.txt").read_text().splitlines()
    )
    results = evaluation.evaluate(
        config=config(),
        options=TrainingOptions(max_eval_steps=25, eval_batch_size=8),
        data=load("cased_128.tfrecord", tmp_path),
        output_dir=golden("model/trained"),
    )
    assert sorted(results) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(float(results[name]), float(value), rtol=0, atol=1e-5)


def test_evaluation_of_an_init_checkpoint_counts_no_steps(tmp_path: Path) -> None:
    results = evaluation.evaluate(
        config=config(), options=TINY, data=load("cased_128.tfrecord", tmp_path),
        output_dir=tmp_path,
        init_checkpoint=checkpoint.resolve_checkpoint(golden("init_bertadam")),
    )  # fmt: skip
    assert results["global_step"] == 0
    with pytest.raises(UserError, match="holds no checkpoint to evaluate"):
        evaluation.evaluate(
            config=config(), options=TINY, data=load("cased_128.tfrecord", tmp_path),
            output_dir=tmp_path,
        )  # fmt: skip


@pytest.mark.slow
def test_interrupted_and_uninterrupted_runs_are_the_same(tmp_path: Path) -> None:
    """However the steps are divided into calls, checkpoints and starts."""
    train(tmp_path / "whole", unpadded(), DROPOUT)

    class StopAt(StopRequest):
        def __init__(self, folder: Path, step: int) -> None:
            super().__init__()
            self.reached = lambda: (folder / f"model.ckpt-{step}.index").exists()

        def __getattribute__(self, name: str) -> Any:
            if name == "signal_number":
                return 15 if object.__getattribute__(self, "reached")() else 0
            return object.__getattribute__(self, name)

    parts = tmp_path / "parts"
    options = unpadded(save_checkpoints_steps=1, iterations_per_loop=2)
    for step in (1, 5, 7):
        assert train(parts, options, DROPOUT, stop=StopAt(parts, step)).step == step
    assert train(parts, unpadded(iterations_per_loop=3), DROPOUT).step == 12
    assert_identical(parts, tmp_path / "whole")
    log = [json.loads(line) for line in (parts / "training_log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in log] == [12]


@pytest.mark.slow
def test_dropout_and_order_follow_from_the_seed(tmp_path: Path) -> None:
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        train(tmp_path / name, unpadded(num_train_steps=3, random_seed=seed), DROPOUT)
    assert_identical(tmp_path / "a", tmp_path / "b")
    assert largest_difference(weights(tmp_path / "a"), weights(tmp_path / "c")) > 0.1


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_batch(tmp_path: Path) -> None:
    options = unpadded(train_batch_size=8, num_train_steps=5)
    train(tmp_path / "whole", options, config())
    train(tmp_path / "parts", dataclasses.replace(options, gradient_accumulation_steps=4), config())
    parts, whole = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    # Absolute: where the terms of a bias's gradient cancel, rounding is 1e-6 of what is left.
    assert max(np.abs(parts[name] - whole[name]).max() for name in whole) < 1e-6
    assert largest_difference(parts, whole) < 5e-6


def test_recomputing_changes_no_weights(tmp_path: Path) -> None:
    options = unpadded(num_train_steps=4)
    train(tmp_path / "kept", options, DROPOUT)
    train(tmp_path / "again", dataclasses.replace(options, recompute_grad=True), DROPOUT)
    assert largest_difference(weights(tmp_path / "again"), weights(tmp_path / "kept")) < 1e-5


@pytest.mark.slow
def test_mixed_precision_loses_less_than_a_percent(tmp_path: Path) -> None:
    options = unpadded(num_train_steps=200, num_warmup_steps=20, train_batch_size=8, log_every=200)
    losses = {}
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        train(tmp_path / precision, dataclasses.replace(options, precision=precision))
        (line,) = log_of(tmp_path / precision)
        losses[precision] = line["loss"]
    single = losses.pop("float32")
    for precision, loss in losses.items():
        assert abs(loss / single - 1) < 0.01, precision
        assert loss != single, precision
    assert weights(tmp_path / "mixed_float16")["loss_scale"] >= 1


def test_loss_scale_backs_off_recovers_and_gives_up() -> None:
    scale = LossScale(dynamic=True)
    made: list[int] = []
    assert scale.guard(tf.constant(True), lambda: made.append(1))
    assert (scale.value.numpy(), scale.good_steps.numpy(), len(made)) == (2**15, 1, 1)
    for exponent in range(14, -1, -1):
        assert scale.guard(tf.constant(False), lambda: made.append(1))
        assert scale.value.numpy() == 2**exponent
    assert not scale.guard(tf.constant(False), lambda: made.append(1))
    assert len(made) == 1
    scale.good_steps.assign(1999)
    assert scale.guard(tf.constant(True), lambda: made.append(1))
    assert (scale.value.numpy(), scale.good_steps.numpy()) == (2.0, 0)


@pytest.mark.slow
def test_loss_scale_goes_on_where_it_was(tmp_path: Path) -> None:
    options = unpadded(precision="mixed_float16")
    train(tmp_path / "whole", options)
    parts = tmp_path / "parts"
    train(parts, dataclasses.replace(options, num_train_steps=12, save_checkpoints_steps=5))
    for path in parts.glob("model.ckpt-12.*"):
        path.unlink()
    (parts / "checkpoint").unlink()
    train(parts, options)
    assert_identical(parts, tmp_path / "whole")


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, precision: str) -> None:
    broken = checkpoint.read_tensors(small_init(tmp_path / "init"))
    broken["bert/pooler/dense/kernel"] = np.full_like(broken["bert/pooler/dense/kernel"], np.nan)
    checkpoint.write_checkpoint(tmp_path / "broken", broken)
    with pytest.raises(UserError) as raised:
        train(
            tmp_path / "run",
            unpadded(precision=precision, num_train_steps=40, save_checkpoints_steps=1000),
            init_checkpoint=str(tmp_path / "broken"),
        )
    step = 0 if precision == "float32" else 15
    for fragment in (f"step {step}:", "nan", "learning rate", "none; the run had not saved"):
        assert fragment in str(raised.value)
    assert not list((tmp_path / "run").glob("model.ckpt*"))


def test_a_bad_step_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The rate is 0 at step 0 and far too high at step 1, whose own loss is still good."""
    with pytest.raises(UserError, match="too large to go on") as raised:
        train(tmp_path, unpadded(save_checkpoints_steps=1, learning_rate=1e30))
    assert f"last good checkpoint: {tmp_path / 'model.ckpt-1'};" in str(raised.value)
    assert str(raised.value).startswith("step 1:")
    assert checkpoint.latest_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-1")


@pytest.mark.parametrize(
    ("keep", "expected"), [(1, [12]), (3, [8, 10, 12]), (0, [2, 4, 6, 8, 10, 12])]
)
def test_keeps_the_newest_checkpoints(tmp_path: Path, keep: int, expected: list[int]) -> None:
    train(tmp_path, changed(save_checkpoints_steps=2, keep_checkpoint_max=keep))
    found = sorted(int(path.stem.rpartition("-")[2]) for path in tmp_path.glob("*.index"))
    assert found == expected
    state = (tmp_path / "checkpoint").read_text().splitlines()
    assert state[0] == 'model_checkpoint_path: "model.ckpt-12"'
    assert len(state) == 1 + len(expected)
    assert not list(tmp_path.glob("*.partial*"))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-12")


def test_what_a_kill_after_the_last_checkpoint_left_undone_is_made_up_for(
    tmp_path: Path, with_curves: None
) -> None:
    options = changed(num_train_steps=2, keep_checkpoint_max=1)
    train(tmp_path, options)
    curves = tmp_path / "training_curves.png"
    curves.unlink()
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(tmp_path / f"model.ckpt-2{suffix}", tmp_path / f"model.ckpt-1{suffix}")
    train(tmp_path, options)
    assert [path.name for path in tmp_path.glob("*.index")] == ["model.ckpt-2.index"]
    stamp = curves.stat().st_mtime_ns
    train(tmp_path, options)
    assert curves.stat().st_mtime_ns == stamp


def test_an_encoder_without_heads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = checkpoint.read_tensors(checkpoint.resolve_checkpoint(golden("model/init")))
    encoder = {name: value for name, value in tensors.items() if name.startswith("bert/")}
    checkpoint.write_checkpoint(tmp_path / "encoder", encoder)
    with caplog.at_level("INFO"):
        train(
            tmp_path / "run",
            changed(num_train_steps=1),
            config(),
            init_checkpoint=str(tmp_path / "encoder"),
        )
    assert f"{len(encoder)} of {len(tensors)} variables" in caplog.text
    assert "the head cls/predictions and the head cls/seq_relationship" in caplog.text


def test_held_out_values_and_files_of_a_run(tmp_path: Path, with_curves: None) -> None:
    result = train(
        tmp_path,
        changed(eval_every=5, log_every=4),
        held_out={"": load("cased_128.tfrecord", tmp_path / "held_out")},
    )
    records = [
        json.loads(line) for line in (tmp_path / "training_log.jsonl").read_text().splitlines()
    ]
    kinds = [(record["step"], record["kind"]) for record in records]
    assert kinds == [
        (4, "training"), (5, "held_out"), (8, "training"), (10, "held_out"), (12, "training"),
    ]  # fmt: skip
    assert {"loss", "masked_lm_accuracy", "learning_rate", "gradient_norm", "loss_scale",
            "examples_per_second", "tokens_per_second"} <= set(records[0])  # fmt: skip
    assert result.held_out["masked_lm_loss"] == pytest.approx(records[3]["masked_lm_loss"])
    assert (tmp_path / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    (events,) = (tmp_path / "tensorboard").iterdir()
    tags = set()
    for record in tf.data.TFRecordDataset(str(events)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        tags |= {(value.tag, event.step) for value in event.summary.value}
    assert {("training/loss", 8), ("held_out/masked_lm_accuracy", 10)} <= tags


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob("*.index"))


class Losses:
    """Held-out losses as a test sets them, by step, in place of an evaluation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, losses: dict[int, float]) -> None:
        self.asked: list[int] = []
        real = training.Run.evaluate

        def evaluate(run: training.Run, _: Any) -> bool:
            step = run.state.step
            self.asked.append(step)
            values = dict.fromkeys(evaluation.RESULTS[1:], 0.5)
            return real(run, lambda name: {**values, "masked_lm_loss": losses[step]})

        monkeypatch.setattr(training.Run, "evaluate", evaluate)


HELD_OUT = {2: 5.0, 4: 4.0, 6: 4.5, 8: 4.2, 10: 4.1, 12: 4.0}


def test_the_best_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Losses(monkeypatch, HELD_OUT)
    data = {"": load("cased_128.tfrecord", tmp_path / "held_out")}
    options = changed(eval_every=2, save_checkpoints_steps=5, keep_checkpoint_max=1)
    train(tmp_path / "run", options, held_out=data)
    assert checkpoints(tmp_path / "run") == [4, 12]
    best = json.loads((tmp_path / "run" / "best_checkpoint.json").read_text())
    assert best == {"checkpoint": "model.ckpt-4", "step": 4, "masked_lm_loss": 4.0}
    record = json.loads((tmp_path / "run" / "pretraining_run.json").read_text())
    assert (record["best"], record["steps"]) == (best, 12)
    # So it does where a later start evaluates nothing.
    more = dataclasses.replace(options, num_train_steps=14, eval_every=0)
    train(tmp_path / "run", more)
    assert checkpoints(tmp_path / "run") == [4, 14]
    assert json.loads((tmp_path / "run" / "best_checkpoint.json").read_text()) == best
    assert json.loads((tmp_path / "run" / "pretraining_run.json").read_text())["best"] == best
    assert best_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "model.ckpt-4")


def test_a_run_without_gain_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    losses = Losses(monkeypatch, HELD_OUT)
    data = {"": load("cased_128.tfrecord", tmp_path / "held_out")}
    options = changed(eval_every=2, keep_checkpoint_max=1, stop_after_no_gain=3)
    assert train(tmp_path / "run", options, held_out=data).step == 10
    assert checkpoints(tmp_path / "run") == [4, 10]
    assert json.loads((tmp_path / "run" / "pretraining_run.json").read_text())[
        "stopped_without_gain"
    ]
    with caplog.at_level("INFO"):
        assert train(tmp_path / "run", options, held_out=data).step == 10
    assert "--stop_after_no_gain=3 ends the run there" in caplog.text
    # A start that may wait longer goes on, and counts on.
    more = dataclasses.replace(options, stop_after_no_gain=4)
    assert train(tmp_path / "run", more, held_out=data).step == 12
    assert losses.asked == [2, 4, 6, 8, 10, 12]


@pytest.mark.slow
def test_an_interrupted_run_finds_the_same_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was killed between the best checkpoint and the file that names it."""
    Losses(monkeypatch, HELD_OUT)
    data = {"": load("cased_128.tfrecord", tmp_path / "held_out")}
    options = changed(eval_every=2, save_checkpoints_steps=2, keep_checkpoint_max=2)

    class Killed(BaseException):
        pass

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        write = training.Run._write_best

        def killed(run: training.Run) -> None:
            if run.state.step == 4:
                raise Killed
            write(run)

        patch.setattr(training.Run, "_write_best", killed)
        with pytest.raises(Killed):
            train(folder, options, held_out=data)
    assert json.loads((folder / "best_checkpoint.json").read_text())["step"] == 2
    train(folder, options, held_out=data)
    assert json.loads((folder / "best_checkpoint.json").read_text())["step"] == 4
    assert checkpoints(folder) == [4, 10, 12]
    # What was found before a stop is told by the record of a later step.
    longer = dataclasses.replace(options, num_train_steps=13, eval_every=12)
    train(folder, longer, held_out=data)
    record = json.loads((folder / "pretraining_run.json").read_text())
    assert (record["steps"], record["held_out"]["masked_lm_loss"]) == (13, 4.0)


def test_several_held_out_sets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = {
        name: load(file, tmp_path / name)
        for name, file in (("all", "cased_128.tfrecord"), ("radiology", "wwm_128.tfrecord"))
    }
    with caplog.at_level("INFO"):
        train(tmp_path / "run", changed(eval_every=6), held_out=sets)
    lines = [line for line in log_of(tmp_path / "run") if line["kind"] == "held_out"]
    assert [(line["step"], line["set"]) for line in lines] == [
        (6, "all"), (6, "radiology"), (12, "all"), (12, "radiology"),
    ]  # fmt: skip
    for line in lines:
        assert line["masked_lm_perplexity"] == pytest.approx(np.exp(line["masked_lm_loss"]))
    assert lines[0]["loss"] != lines[1]["loss"]
    assert "step 6, held out (radiology): loss" in caplog.text
    assert "perplexity" in caplog.text
    best = json.loads((tmp_path / "run" / "best_checkpoint.json").read_text())
    assert best["set"] == "all"
    record = json.loads((tmp_path / "run" / "pretraining_run.json").read_text())
    assert set(record["held_out_sets"]) == {"all", "radiology"}
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    tags = {
        value.tag
        for event in tf.data.TFRecordDataset(str(events))
        for value in tf.compat.v1.Event.FromString(event.numpy()).summary.value
    }
    assert {"held_out/radiology/masked_lm_perplexity", "training/masked_lm_perplexity"} <= tags


def test_the_record_is_there_before_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the last checkpoint is written, and right after it."""

    class Killed(BaseException):
        pass

    for name, when in (("in", "save"), ("after", "keep_newest")):
        folder = tmp_path / name
        with monkeypatch.context() as patch:

            def killed(*_: Any, **__: Any) -> None:
                raise Killed

            owner: Any = training.TrainingState if when == "save" else run
            patch.setattr(owner, when, killed)
            with pytest.raises(Killed):
                train(folder, changed(num_train_steps=3))
        train(folder, changed(num_train_steps=3))
        record = json.loads((folder / "pretraining_run.json").read_text())
        assert (record["steps"], record["checkpoint"]) == (3, "model.ckpt-3")
        assert record["final"]["loss"] > 0
        assert json.loads((folder / "training_flags.json").read_text())["num_train_steps"] == 3


@pytest.mark.slow
def test_a_finished_run_under_a_constant_rate_can_be_extended(tmp_path: Path) -> None:
    """The longer run is the one that was never finished, with or without a decay at its end."""
    constant = changed(learning_rate_schedule="constant", num_train_steps=6, log_every=1)
    train(tmp_path / "finished", constant)
    for name, changes in {
        "longer": {"num_train_steps": 12},
        "decaying": {
            "num_train_steps": 12, "learning_rate_schedule": "one_minus_sqrt", "decay_steps": 4,
        },
    }.items():  # fmt: skip
        final = dataclasses.replace(constant, **changes)
        shutil.copytree(tmp_path / "finished", tmp_path / name)
        require_same_run(tmp_path / name, final, SMALL, [str(golden("cased_128.tfrecord"))])
        train(tmp_path / name, final)
        train(tmp_path / f"{name}_whole", final)
        assert_identical(tmp_path / name, tmp_path / f"{name}_whole")
        rates = [line["learning_rate"] for line in log_of(tmp_path / name)]
        expected = [0, 1 / 3, 2 / 3, *[1] * 9]
        if name == "decaying":
            expected[9:] = [1 - (done / 4) ** 0.5 for done in (1, 2, 3)]
        np.testing.assert_allclose(rates, 1e-3 * np.array(expected), rtol=1e-6)
    linear = changed(num_train_steps=6)
    train(tmp_path / "linear", linear)
    with pytest.raises(UserError, match="--num_train_steps was 6, now 12"):
        require_same_run(tmp_path / "linear", TINY, SMALL, [str(golden("cased_128.tfrecord"))])


@pytest.mark.slow
def test_a_run_names_the_checkpoint_that_it_began_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As 512 after 128: moments and schedule begin anew, and the first run stays as it is."""

    def record_of(folder: Path) -> Any:
        return json.loads((folder / "pretraining_run.json").read_text())

    init = small_init(tmp_path / "init")
    train(tmp_path / "first", changed(num_train_steps=2), init_checkpoint=init)
    before = {path: path.read_bytes() for path in (tmp_path / "first").iterdir() if path.is_file()}
    of_first = record_of(tmp_path / "first")
    assert of_first["parent"] == {
        "folder": str(tmp_path / "init"), "checkpoint": "bert_model.ckpt", "step": 0,
        "fingerprint": state.checkpoint_fingerprint(init),
    }  # fmt: skip
    first = checkpoint.resolve_checkpoint(tmp_path / "first")
    second = changed(
        learning_rate=5e-4, num_train_steps=2, log_every=1, learning_rate_schedule="constant"
    )
    train(tmp_path / "second", second, init_checkpoint=first)
    expected = {
        "folder": str(tmp_path / "first"), "checkpoint": "model.ckpt-2", "step": 2,
        "fingerprint": state.checkpoint_fingerprint(first), "flags": of_first["flags"],
        "parent": of_first["parent"],
    }  # fmt: skip
    assert record_of(tmp_path / "second")["parent"] == expected
    rates = [line["learning_rate"] for line in log_of(tmp_path / "second")]
    np.testing.assert_allclose(rates, 5e-4 * np.array([0, 1 / 3]), rtol=1e-6)
    after = {path: path.read_bytes() for path in (tmp_path / "first").iterdir() if path.is_file()}
    assert after == before
    # The same weights without what Adam remembers.
    bare = {
        name: value for name, value in weights(tmp_path / "first").items() if "adam" not in name
    }
    (tmp_path / "bare").mkdir()
    checkpoint.write_checkpoint(tmp_path / "bare" / "model.ckpt-2", bare)
    bare_prefix = checkpoint.resolve_checkpoint(tmp_path / "bare" / "model.ckpt-2")
    train(tmp_path / "from_bare", second, init_checkpoint=bare_prefix)
    assert_identical(tmp_path / "second", tmp_path / "from_bare")

    # Goes on: the record keeps what the run began from, whatever has become of that.
    train(tmp_path / "first", changed(num_train_steps=3, num_warmup_steps=3))
    with caplog.at_level("WARNING"):
        longer = dataclasses.replace(second, num_train_steps=3)
        train(tmp_path / "second", longer, init_checkpoint=str(tmp_path / "first"))
        assert "began from model.ckpt-2 (step 2, sha256" in caplog.text
        caplog.clear()
        shutil.rmtree(tmp_path / "first")
        longer = dataclasses.replace(second, num_train_steps=4)
        train(tmp_path / "second", longer, init_checkpoint=str(tmp_path / "first"))
        assert not caplog.text
    record = record_of(tmp_path / "second")
    assert (record["steps"], record["parent"]) == (4, expected)
    train(tmp_path / "random", changed(num_train_steps=1))
    assert "parent" not in record_of(tmp_path / "random")


def test_a_finished_run_has_nothing_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, changed(num_train_steps=2))
    before = (tmp_path / "model.ckpt-2.index").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        result = train(tmp_path, changed(num_train_steps=2), init_checkpoint="elsewhere")
    assert result.step == 2
    assert "nothing is left to train" in caplog.text
    assert "--init_checkpoint is not read" in caplog.text
    assert (tmp_path / "model.ckpt-2.index").stat().st_mtime_ns == before
