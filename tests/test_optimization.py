"""Schedule, clipping and update against the formulas of Google's optimizer."""

from __future__ import annotations

import numpy as np
import pytest

from bert_clinical import optimization
from bert_clinical.nn.tensorflow import tf


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
    rate = optimization.learning_rate_at(
        tf.constant(step, tf.int64),
        learning_rate=2e-3,
        num_train_steps=100,
        num_warmup_steps=warmup,
    )
    np.testing.assert_allclose(rate, expected, rtol=1e-6, atol=1e-12)


def test_names_without_decay() -> None:
    assert optimization.decays("bert/encoder/layer_0/output/dense/kernel")
    assert optimization.decays("bert/embeddings/word_embeddings")
    for name in (
        "bert/embeddings/LayerNorm/gamma",
        "bert/pooler/dense/bias",
        "cls/predictions/output_bias",
    ):
        assert not optimization.decays(name)


@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_two_updates_are_the_formula(name: str) -> None:
    draw = np.random.default_rng(3)
    start = draw.normal(size=[7, 3]).astype(np.float32)
    variables = {name: tf.Variable(start)}
    slots = optimization.create_slots(variables)
    weight = start.astype(np.float64)
    first = second = np.zeros([7, 3])
    for rate, scale in [(0.1, 1.0), (0.05, 0.25)]:
        gradient = draw.normal(size=[7, 3]).astype(np.float32)
        optimization.apply_adam(
            variables[name],
            slots[f"{name}/adam_m"],
            slots[f"{name}/adam_v"],
            tf.constant(gradient),
            tf.constant(scale),
            tf.constant(rate),
            decay=optimization.decays(name),
        )
        scaled = gradient * scale
        first = 0.9 * first + 0.1 * scaled
        second = 0.999 * second + 0.001 * scaled**2
        update = first / (np.sqrt(second) + 1e-6)
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
