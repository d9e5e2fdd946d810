"""Elementwise functions that XLA compiles on a CPU, for values whose number is not known before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bert_clinical.nn.tensorflow import tf

LEAST = 1 << 18
"""Values from which on a compiled function saves more than its call and its compilation cost."""

_BLOCKS = 128
_LARGEST_BLOCK = 1 << 30
_WIDTH = 1 << 10
"""Of the rows in which values are handed over: XLA divides rows among threads."""

Elementwise = Callable[..., tf.Tensor]


def in_blocks(compute: Elementwise) -> Elementwise:
    """Returns `compute`, whose float32 values are computed by compiled code if they are many.

    TensorFlow passes over all values for each operation, compiled code once for all of them. But
    XLA compiles a program for each size. So that those are few, it is given a number of blocks,
    from 128 to 255 of a power of two; what is left, if anything is, is computed as ever.

    Args:
      compute: elementwise, of tensors of one shape and type.
    """
    compiled = tf.function(compute, autograph=False, jit_compile=True)

    def run(*values: tf.Tensor) -> tf.Tensor:
        first = values[0]
        count = first.shape.num_elements()
        if first.dtype != tf.float32 or (count is not None and count < LEAST):
            return compute(*values)
        if count is not None:
            return compiled(*values)
        size = tf.size(first, tf.int64)
        whole = _whole_blocks(size)
        flat = [tf.reshape(value, [-1]) for value in values]

        def blocks(values: Sequence[tf.Tensor]) -> tf.Tensor:
            return tf.reshape(
                compiled(*(tf.reshape(value, [-1, _WIDTH]) for value in values)), [-1]
            )

        def with_rest() -> tf.Tensor:
            rest = compute(*(value[whole:] for value in flat))
            return tf.concat([blocks([value[:whole] for value in flat]), rest], 0)

        answer = tf.cond(tf.equal(whole, size), lambda: blocks(flat), with_rest)
        return tf.reshape(answer, tf.shape(first))

    return run


def _whole_blocks(count: tf.Tensor) -> tf.Tensor:
    """Returns how many of `count` values fill blocks, int64 []; 0 if they are too few."""
    sizes = [LEAST // _BLOCKS]
    while sizes[-1] < _LARGEST_BLOCK:
        sizes.append(2 * sizes[-1])
    blocks = tf.constant(sizes, tf.int64)
    block = tf.reduce_max(tf.where(blocks * _BLOCKS <= count, blocks, 0))
    return tf.where(block > 0, count - count % tf.maximum(block, 1), 0)
