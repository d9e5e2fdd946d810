"""Schedule, clipping and update against the formulas of Google's optimizer."""

from __future__ import annotations

import numpy as np
import pytest

from bert_clinical import optimization
from bert_clinical.nn.tensorflow import tf
from tests.theirs import needs_transformers, theirs


@pytest.mark.parametrize(
    ("step", "warmup", "expected"),
    [
        (0, 10, 0.0),
        (3, 10, 0.6e-3),
        (9, 10, 1.8e-3),
        (10, 10, 2e-3 * 0.9),
        (55, 10, 2e-3 * 0.45),
        (100, 10, 0.0),
        (130, 10, 0.0),
        (0, 0, 2e-3),
        (1, 0, 2e-3 * 0.99),
    ],
)
def test_learning_rate(step: int, warmup: int, expected: float) -> None:
    schedule = optimization.Schedule(2e-3, num_train_steps=100, num_warmup_steps=warmup)
    rate = schedule.rate_at(tf.constant(step, tf.int64))
    np.testing.assert_allclose(rate, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("step", "kind", "expected"),
    [
        (0, "constant", 0.0),
        (5, "constant", 1e-3),
        (10, "constant", 2e-3),
        (100, "constant", 2e-3),
        (500, "constant", 2e-3),
        (5, "one_minus_sqrt", 1e-3),
        (10, "one_minus_sqrt", 2e-3),
        (80, "one_minus_sqrt", 2e-3),
        (81, "one_minus_sqrt", 2e-3 * (1 - 0.05**0.5)),
        (85, "one_minus_sqrt", 1e-3),
        (100, "one_minus_sqrt", 0.0),
        (130, "one_minus_sqrt", 0.0),
    ],
)
def test_schedules_for_going_on(step: int, kind: str, expected: float) -> None:
    schedule = optimization.Schedule(2e-3, 100, 10, kind, decay_steps=20)
    rate = schedule.rate_at(tf.constant(step, tf.int64))
    np.testing.assert_allclose(rate, expected, rtol=1e-6, atol=1e-12)


def test_schedules_that_agree_so_far() -> None:
    constant = optimization.Schedule(2e-3, 100, 10, "constant")
    longer = optimization.Schedule(2e-3, 200, 10, "constant")
    decaying = optimization.Schedule(2e-3, 200, 10, "one_minus_sqrt", 40)
    linear, longer_linear = (optimization.Schedule(2e-3, steps, 10) for steps in (100, 200))
    assert constant.is_same_until(1000, longer)
    assert constant.is_same_until(160, decaying)
    assert decaying.is_same_until(160, constant)
    assert not constant.is_same_until(161, decaying)
    assert linear.is_same_until(10, longer_linear)
    assert not linear.is_same_until(11, longer_linear)
    assert not constant.is_same_until(11, linear)
    assert linear.is_same_until(50, linear)
    assert not constant.is_same_until(1, optimization.Schedule(1e-3, 100, 10, "constant"))


def test_names_without_decay() -> None:
    assert optimization.decays("bert/encoder/layer_0/output/dense/kernel")
    assert optimization.decays("bert/embeddings/word_embeddings")
    for name in (
        "bert/embeddings/LayerNorm/gamma",
        "bert/pooler/dense/bias",
        "cls/predictions/output_bias",
    ):
        assert not optimization.decays(name)


@pytest.mark.parametrize("shape", [(7, 3), (257, 256)], ids=["small", "large, compiled"])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_two_updates_are_the_formula(name: str, corrected: bool, shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(3)
    start = draw.normal(size=shape).astype(np.float32)
    variables = {name: tf.Variable(start)}
    slots = optimization.create_slots(variables)
    weight = start.astype(np.float64)
    first = second = np.zeros(shape)
    for step, (rate, scale) in enumerate([(0.1, 1.0), (0.05, 0.25)]):
        gradient = draw.normal(size=shape).astype(np.float32)
        optimization.apply_adam(
            variables[name],
            slots[f"{name}/adam_m"],
            slots[f"{name}/adam_v"],
            tf.constant(gradient),
            tf.constant(scale),
            tf.constant(rate),
            decay=optimization.decays(name),
            corrections=(
                optimization.bias_corrections(tf.constant(step, tf.int64)) if corrected else None
            ),
        )
        scaled = gradient * scale
        first = 0.9 * first + 0.1 * scaled
        second = 0.999 * second + 0.001 * scaled**2
        of_first, of_second = (
            (1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)) if corrected else (1, 1)
        )
        update = first / of_first / (np.sqrt(second / of_second) + 1e-6)
        weight = weight - rate * (update + (0.01 * weight if name == "kernel" else 0))
    np.testing.assert_allclose(variables[name], weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slots[f"{name}/adam_m"], first, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(slots[f"{name}/adam_v"], second, rtol=1e-5, atol=1e-9)


def test_clipping_by_the_norm_of_all() -> None:
    gradients = {"a": tf.constant([3.0, 0.0]), "b": tf.constant([[4.0]])}
    norm = optimization.global_norm(gradients)
    assert norm == 5.0
    np.testing.assert_allclose(optimization.clip_scale(norm), 0.2)
    assert optimization.clip_scale(tf.constant(0.5)) == 1.0
    assert np.isnan(optimization.clip_scale(tf.constant(np.inf)))
    assert np.isnan(optimization.clip_scale(tf.constant(np.nan)))
    clipped, _ = tf.clip_by_global_norm(list(gradients.values()), 1.0)
    np.testing.assert_allclose(clipped[0], gradients["a"] * optimization.clip_scale(norm))


@needs_transformers
@pytest.mark.parametrize(("name", "decay"), [("kernel", 0.01), ("bias", 0.0)])
def test_corrected_updates_are_pytorchs(name: str, decay: float) -> None:
    draw = np.random.default_rng(5)
    start = draw.normal(size=[7, 3]).astype(np.float32)
    gradients = [draw.normal(size=[7, 3]).astype(np.float32) for _ in range(5)]
    rates = [0.02, 0.1, 0.05, 0.03, 0.01]
    variable = tf.Variable(start)
    slots = optimization.create_slots({name: variable})
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
        optimization.apply_adam(
            variable, slots[f"{name}/adam_m"], slots[f"{name}/adam_v"], tf.constant(gradient),
            tf.constant(1.0), tf.constant(rate), decay=optimization.decays(name),
            corrections=optimization.bias_corrections(tf.constant(step, tf.int64)),
        )  # fmt: skip
    expected = theirs("adamw", start, gradients, rates, decay)
    np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)
