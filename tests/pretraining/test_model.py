"""Losses and gradients of pretraining without padding are those with it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bert_clinical import optimization
from bert_clinical.modeling import create_variables
from bert_clinical.nn.heads import PretrainingSums
from bert_clinical.nn.packing import EXACT, PackedShape
from bert_clinical.nn.precision import LossScale
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.model import Batch, PretrainingModel, Tensors
from bert_clinical.pretraining.step import METRICS, TrainingStep
from bert_clinical.weights.transformers_names import to_transformers_config, transformers_name
from tests.pretraining.test_loop import (
    SMALL,
    changed,
    config,
    largest_difference,
    load,
    train,
    weights,
)
from tests.theirs import needs_transformers, theirs

FACTOR = 3
"""Weights so many times as large as new ones, so that attention is not flat."""
DENOMINATOR = 9.0
ROOMY = PackedShape(1000, (128,) * 4)


def real_batch(folder: Path, size: int = 8) -> dict[str, np.ndarray]:
    data = load("cased_128.tfrecord", folder)
    integers, floats = data.read_blocks(np.array([0]))
    return data.decoder.views(integers[-size:], floats[-size:])


def cut(batch: dict[str, np.ndarray], lengths: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns the batch with sequences of these lengths, and the predictions left in them."""
    lengths = np.array(lengths)[:, None]
    shorter = {name: values.copy() for name, values in batch.items()}
    for name in ("input_ids", "input_mask", "segment_ids"):
        shorter[name][np.arange(128) >= lengths] = 0
    gone = batch["masked_lm_positions"] >= lengths
    for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
        shorter[name][gone] = 0
    return shorter


BATCHES = {
    "real": None,
    "whole": [128] * 8,
    "all kinds of lengths": [1, 128, 3, 127, 40, 77, 2, 100],
    "one token each": [1] * 8,
}


def values_of(factor: int) -> dict[str, tf.Tensor]:
    """Returns weights so many times as large as new ones."""
    return {
        name: value.value() * (1 if "LayerNorm" in name else factor)
        for name, value in create_variables(config(), random_seed=1).items()
    }


def losses_and_gradients(
    batch: Batch, packed: PackedShape | None, *, factor: int = FACTOR
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    compute = compiled_gradients(packed)
    gradients, sums = compute(
        values_of(factor), {name: tf.constant(value) for name, value in batch.items()}
    )
    return sums.numpy(), {name: value.numpy() for name, value in gradients.items()}


@functools.cache
def compiled_gradients(packed: PackedShape | None) -> Callable[..., tuple[Tensors, tf.Tensor]]:
    """Returns the gradients of given weights for a given batch, compiled once for all tests."""

    @tf.function
    def compute(values: Tensors, batch: Batch) -> tuple[Tensors, tf.Tensor]:
        return PretrainingModel(config()).gradients(
            values, batch, lm_denominator=tf.constant(DENOMINATOR), batch_size=tf.constant(8.0),
            dropout_seed=None, loss_scale=tf.constant(1.0), packed=packed,
        )  # fmt: skip

    return compute


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("packed", [EXACT, ROOMY], ids=["exact", "roomy"])
def test_losses_and_gradients(kind: str, packed: PackedShape, tmp_path: Path) -> None:
    batch = real_batch(tmp_path)
    if BATCHES[kind] is not None:
        batch = cut(batch, BATCHES[kind])
    if kind == "one token each":
        # Equal examples with unequal labels would leave nothing but rounding.
        batch["input_ids"][:, 0] = np.arange(10, 18)
        batch["next_sentence_labels"][:] = 1
    if kind == "whole":
        batch["input_mask"] = np.ones_like(batch["input_mask"])
    if packed is ROOMY and batch["input_mask"].sum() > ROOMY.rows:
        packed = PackedShape(1024, (128,) * 4)
    expected, expected_gradients = losses_and_gradients(batch, None)
    found, gradients = losses_and_gradients(batch, packed)
    np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=str(PretrainingSums.NAMES))
    for name, gradient in expected_gradients.items():
        # No loss depends on the keys' biases: their gradient is rounding noise.
        scale_of = name.replace("key/bias", "query/bias")
        scale = np.abs(expected_gradients[scale_of]).max()
        assert np.abs(gradients[name] - gradient).max() <= 1e-6 * scale, name


def test_one_example_of_one_token(tmp_path: Path) -> None:
    batch = cut(real_batch(tmp_path, size=1), [1])
    expected, expected_gradients = losses_and_gradients(batch, None)
    found, gradients = losses_and_gradients(batch, EXACT)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for name, gradient in expected_gradients.items():
        # One key alone takes all attention: what scores it has doesn't matter.
        scale = np.abs(gradient).max() if "/query/" not in name and "/key/" not in name else 1.0
        assert np.abs(gradients[name] - gradient).max() <= 1e-6 * scale, name


def exact_gradients(batch: Batch, factor: int) -> dict[str, np.ndarray]:
    """Returns what `losses_and_gradients` approaches, from transformers in float64."""
    values = {n: (transformers_name(n), v.numpy()) for n, v in values_of(factor).items()}
    state = {new.name: v.T if new.transposed else v for new, v in values.values()}
    settings = to_transformers_config(
        config(), gelu="tanh", architecture="", dtype="float64", pad_token_id=0
    )
    found = theirs("exact_pretraining_gradients", settings, state, dict(batch), DENOMINATOR)
    return {
        name: found[new.name].T if new.transposed else found[new.name]
        for name, (new, _) in values.items()
    }


@needs_transformers
@pytest.mark.parametrize("kind", ["real", "all kinds of lengths"])
def test_of_new_weights_both_are_float32s_rounding_away_from_the_truth(
    kind: str, tmp_path: Path
) -> None:
    """Leaving padding out is as near to float64 as computing it.

    Of new weights either is some 1e-6 to 2e-5 away, and so they may be from each other.
    """
    batch = real_batch(tmp_path)
    if BATCHES[kind] is not None:
        batch = cut(batch, BATCHES[kind])
    exact = exact_gradients(batch, factor=1)
    padded, packed = (losses_and_gradients(batch, p, factor=1)[1] for p in (None, EXACT))
    ratios = []
    for name, truth in exact.items():
        if name.endswith("key/bias"):
            # 0 in truth.
            continue
        # How the two differ is a matter of the processor's rounding, which no bound holds for all.
        for found in (packed, padded):
            assert np.abs(found[name] - truth).max() <= 1e-4 * np.abs(truth).max(), name
        own, other = (np.linalg.norm(found[name] - truth) for found in (packed, padded))
        ratios.append(own / other)
    assert 0.8 < np.exp(np.mean(np.log(ratios))) < 1.25


def one_step(batch: Batch, shapes: Sequence[PackedShape], parts: int, *, jit: bool) -> np.ndarray:
    variables = create_variables(SMALL, random_seed=1)
    step = TrainingStep(
        PretrainingModel(SMALL),
        optimization.Schedule(1e-3, num_train_steps=10, num_warmup_steps=0),
        random_seed=1,
        gradient_accumulation_steps=parts,
        variables=variables, slots=optimization.create_slots(variables),
        loss_scale=LossScale(dynamic=False), jit_compile=jit, shapes=shapes,
    )  # fmt: skip
    rows, _ = step.run({name: tf.constant(value[None]) for name, value in batch.items()}, 0)
    return rows.numpy()[0]


@pytest.fixture(scope="module")
def unequal_batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("unequal")
    return cut(real_batch(folder), [10, 20, 30, 15, 128, 128, 100, 110])


@pytest.fixture(scope="module")
def padded_step(unequal_batch: Batch) -> np.ndarray:
    return one_step(unequal_batch, (), 1, jit=False)


@pytest.mark.parametrize(
    ("parts", "jit"),
    [
        (1, False),
        pytest.param(1, True, marks=pytest.mark.slow),
        pytest.param(2, False, marks=pytest.mark.slow),
        pytest.param(2, True, marks=pytest.mark.slow),
    ],
)
def test_each_part_of_a_batch_takes_a_shape_of_its_own(
    parts: int, jit: bool, unequal_batch: Batch, padded_step: np.ndarray
) -> None:
    """The first four fit the smaller shape, the others none or the larger."""
    size = 8 // parts
    shapes = [PackedShape(80, (40,) * min(4, size)), PackedShape(320, (40, 40, 128, 128))]
    if parts == 1:
        shapes = [PackedShape(600, (20, 30, 110, 128)), *shapes[2:]]
    found = one_step(unequal_batch, shapes, parts, jit=jit)
    np.testing.assert_allclose(found, padded_step, rtol=3e-6, err_msg=str(METRICS))


def test_training_without_padding_is_training(tmp_path: Path) -> None:
    """Without dropout the weights are those with padding, up to rounding."""
    for name, skip in [("with", False), ("without", True)]:
        train(tmp_path / name, changed(num_train_steps=5, skip_padding=skip))
    # Where terms cancel, AdamW makes much of rounding.
    assert largest_difference(weights(tmp_path / "without"), weights(tmp_path / "with")) < 2e-4
