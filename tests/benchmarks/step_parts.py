"""Processor time of the parts of a training step, each made alone.

    python -m tests.benchmarks.step_parts [--rows 880] [--repetitions 6]

BERT-base at batch 8 and length 128, of whose 1,024 positions so many rows are real. `step_profile`
sees a whole step by the clock; processor time is hardly changed by what else a machine does. The
least of the repetitions counts, forward and backward, times how often a step makes the part.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bert_clinical import optimization
from bert_clinical.nn import layers, packing
from bert_clinical.nn.tensorflow import tf
from tests.benchmarks.processor import processor
from tests.benchmarks.training_step import LENGTH, VOCAB

BATCH, LAYERS, HEADS, WIDTH, INNER, PREDICTED = 8, 12, 12, 768, 3072, 136
Part = tuple[str, int, Callable[[], Any]]


def with_gradient(function: Callable[..., tf.Tensor], *values: tf.Tensor) -> Callable[[], Any]:
    def run(*values: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            for value in values:
                tape.watch(value)
            answer = function(*values)
        return tape.gradient(answer, values, output_gradients=tf.stop_gradient(answer))

    return partial(tf.function(run, autograph=False), *values)


def parts(rows: int) -> Iterator[Part]:
    """Yields names, how often a step makes each, and what makes it once."""
    normal, zeros = tf.random.normal, tf.zeros
    hidden, inner = normal([rows, WIDTH]), normal([rows, INNER])
    seed = tf.constant([1, 2], tf.int64)
    dense = partial(layers.dense, compute_dtype=tf.float32)

    def dropout(value: tf.Tensor) -> tf.Tensor:
        return layers.Dropout(seed, 1)(value, 0.1)

    for out, value, times in ((INNER, hidden, 12), (WIDTH, inner, 12), (WIDTH, hidden, 48)):
        kernel = normal([value.shape[1], out])
        name = f"dense {value.shape[1]} to {out}"
        yield name, times, with_gradient(dense, value, kernel, zeros([out]))
    for name in ("gelu_tanh", "gelu_tanh_compiled", "gelu_erf", "gelu_erf_compiled"):
        # The number of rows is not known when a step is traced.
        gelu = tf.function(
            getattr(layers, name), input_signature=[tf.TensorSpec([None, INNER])], autograph=False
        )
        yield name, LAYERS, with_gradient(gelu, inner)
    norm = with_gradient(layers.layer_norm, hidden, tf.ones([WIDTH]), zeros([WIDTH]))
    yield "LayerNorm", 2 * LAYERS + 1, norm
    yield "dropout", 2 * LAYERS + 1, with_gradient(dropout, hidden)

    lengths = np.full(BATCH, rows // BATCH)
    lengths[: rows % BATCH] += 1
    mask = tf.constant(np.arange(LENGTH) < lengths[:, None], tf.int32)

    def moved(value: tf.Tensor) -> tf.Tensor:
        layout = packing.Packed(mask, HEADS)
        return layout.joined(layout.heads(value))

    yield "rows to heads and back", 2 * LAYERS, with_gradient(moved, hidden)
    length = int(lengths.max())
    scores = normal([BATCH, HEADS, length, length])
    keys = normal([BATCH, HEADS, length, WIDTH // HEADS])
    yield "softmax", LAYERS, with_gradient(tf.nn.softmax, scores)
    yield "dropout of attention", LAYERS, with_gradient(dropout, scores)

    def attended(keys: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        return tf.matmul(scores + tf.matmul(keys, keys, transpose_b=True), keys)

    yield "products of attention", LAYERS, with_gradient(attended, keys, scores)
    table, vectors = normal([VOCAB, WIDTH]), normal([PREDICTED, WIDTH])
    logits = partial(tf.matmul, transpose_b=True)
    yield "logits", 1, with_gradient(logits, vectors, table)
    losses = partial(tf.nn.sparse_softmax_cross_entropy_with_logits, zeros([PREDICTED], tf.int32))
    yield "losses", 1, with_gradient(losses, normal([PREDICTED, VOCAB]))
    weights, first, second = (tf.Variable(zeros([4 * WIDTH, 3 * WIDTH])) for _ in range(3))
    gradient = normal(weights.shape)
    # So many layers' weights are the whole model's.
    yield "norm", 15, partial(tf.function(optimization.global_norm), {"": gradient})
    update = partial(optimization.apply_adam, weights, first, second, decay=True)
    one, rate = tf.constant(1.0), tf.constant(1e-4)
    yield "Adam", 15, partial(tf.function(update, autograph=False), gradient, one, rate)


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=880)
    parser.add_argument("--repetitions", type=int, default=6)
    values = parser.parse_args()
    print(f"{processor()}; {values.rows} rows")
    for name, times, make in parts(values.rows):
        make()
        taken = []
        for _ in range(values.repetitions):
            begin = processor_seconds()
            make()
            taken.append(processor_seconds() - begin)
        least = min(taken)
        print(
            f"{name:24} {least * 1e3:8.2f} ms, {times:2} times {least * times:7.3f} s", flush=True
        )


if __name__ == "__main__":
    main()
