"""Losses and counts of the heads against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from bert_clinical.nn.heads import (
    PretrainingSums,
    masked_lm_denominator,
    masked_lm_logits,
    next_sentence_logits,
    pretraining_sums,
    total_loss,
)
from bert_clinical.nn.tensorflow import tf

BATCH, LENGTH, WIDTH, VOCAB, PREDICTIONS = 3, 7, 5, 37, 4
DRAW = np.random.default_rng(7)


def floats(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_logits() -> None:
    transform = "cls/predictions/transform"
    weights = {
        f"{transform}/dense/kernel": floats(WIDTH, WIDTH),
        f"{transform}/dense/bias": floats(WIDTH),
        f"{transform}/LayerNorm/gamma": floats(WIDTH),
        f"{transform}/LayerNorm/beta": floats(WIDTH),
        "cls/predictions/output_bias": floats(VOCAB),
        "cls/seq_relationship/output_weights": floats(2, WIDTH),
        "cls/seq_relationship/output_bias": floats(2),
    }
    vectors, table = floats(6, WIDTH), floats(VOCAB, WIDTH)
    hidden = np.maximum(
        vectors @ weights[f"{transform}/dense/kernel"] + weights[f"{transform}/dense/bias"], 0
    )
    normal = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(
        hidden.var(-1, keepdims=True) + 1e-12
    )
    normal = (
        normal * weights[f"{transform}/LayerNorm/gamma"] + weights[f"{transform}/LayerNorm/beta"]
    )
    expected = normal @ table.T + weights["cls/predictions/output_bias"]
    answer = masked_lm_logits(weights, tf.constant(vectors), tf.constant(table), tf.nn.relu)
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    pooled = floats(BATCH, WIDTH)
    expected = (
        pooled @ weights["cls/seq_relationship/output_weights"].T
        + weights["cls/seq_relationship/output_bias"]
    )
    np.testing.assert_allclose(next_sentence_logits(weights, pooled), expected, atol=1e-5)


@pytest.mark.parametrize("lm_weights", [[[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], [[0] * 4] * 3])
def test_losses_and_hits(lm_weights: list[list[int]]) -> None:
    weights = np.array(lm_weights, np.float32)
    ids = DRAW.integers(0, VOCAB, [BATCH, PREDICTIONS]).astype(np.int32)
    labels = np.array([[1], [0], [1]], np.int32)
    lm_logits, sentence_logits = floats(BATCH * PREDICTIONS, VOCAB), floats(BATCH, 2)
    lm_logits[0, ids[0, 0]] = 50
    sums = pretraining_sums(*map(tf.constant, (lm_logits, ids, weights, sentence_logits, labels)))
    lm_losses = -log_softmax(lm_logits)[np.arange(12), ids.ravel()]
    sentence_losses = -log_softmax(sentence_logits)[np.arange(3), labels.ravel()]
    np.testing.assert_allclose(sums.masked_lm_loss, lm_losses @ weights.ravel(), rtol=1e-5)
    hits = (lm_logits.argmax(-1) == ids.ravel()) @ weights.ravel()
    assert sums.masked_lm_correct == hits
    assert sums.masked_lm_weight == weights.sum()
    np.testing.assert_allclose(sums.next_sentence_loss, sentence_losses.sum(), rtol=1e-5)
    assert sums.next_sentence_correct == (sentence_logits.argmax(-1) == labels.ravel()).sum()
    assert sums.examples == 3
    loss = total_loss(sums, masked_lm_denominator(tf.constant(weights)), sums.examples)
    expected = lm_losses @ weights.ravel() / (weights.sum() + 1e-5) + sentence_losses.mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_sums_go_through_one_tensor() -> None:
    values = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    sums = PretrainingSums.unstacked(values)
    assert (sums.masked_lm_loss, sums.examples) == (1.0, 6.0)
    np.testing.assert_array_equal(sums.stacked(), values)
