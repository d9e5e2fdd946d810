"""How much room a step has for the real tokens of its batch, chosen from the data before training.

A step that is not compiled takes each batch as it is. XLA compiles a program for every shape, and a
GPU's memory and libraries like few of them: there a batch takes the smallest of a few shapes that
has room for it, and padding is computed only in a batch that none has room for.
"""

from __future__ import annotations

import logging

import numpy as np

from bert_clinical.nn.packing import EXACT, ROWS_MULTIPLE, PackedShape, group_sizes, rounded_up
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.batches import PretrainingData
from bert_clinical.pretraining.options import TrainingOptions

_log = logging.getLogger(__name__)

_SHARES = (0.5, 0.9)
"""How many of all batches each shape has room for."""

_BATCHES = 1000
_LENGTHS_MULTIPLE = 8
_LEAST_GAIN = 0.02
"""A shape that leaves out less, compared with the next larger one, isn't worth its compilation."""


def shapes_of(
    options: TrainingOptions, data: PretrainingData, batch_size: int
) -> tuple[PackedShape, ...]:
    """Returns the shapes for `TrainingStep` and `EvaluationStep`; the same for the same data.

    Args:
      options: `skip_padding`, `jit_compile` and `max_seq_length` are read.
      data: the examples.
      batch_size: of a part of the batch, on one device.
    """
    if not options.skip_padding:
        return ()
    if not (options.jit_compile or tf.config.list_logical_devices("GPU")):
        return (EXACT,)
    shapes = choose_shapes(data.sample_lengths(), batch_size, options.max_seq_length)
    sizes = [shape.rows for shape in shapes] + [batch_size * options.max_seq_length]
    _log.info("Padding: a batch takes the first that has room for its tokens of %s", sizes)
    return shapes


def choose_shapes(
    lengths: np.ndarray, batch_size: int, max_seq_length: int
) -> tuple[PackedShape, ...]:
    """Returns shapes for batches of sequences of these lengths, the smallest first.

    Args:
      lengths: int [examples], real tokens.
      batch_size: sequences a batch.
      max_seq_length: positions of a sequence.
    """
    batches = np.sort(np.random.default_rng(0).choice(lengths, [_BATCHES, batch_size]))
    ends = np.cumsum(group_sizes(batch_size)) - 1
    rows = batches.sum(axis=1)
    by_rows = np.argsort(rows, kind="stable")
    chosen: list[PackedShape] = []
    larger = batch_size * max_seq_length
    for share in reversed(_SHARES):
        held = by_rows[: int(_BATCHES * share)]
        room = rounded_up(int(rows[held].max()), ROWS_MULTIPLE)
        if room <= larger * (1 - _LEAST_GAIN):
            longest = batches[held][:, ends].max(axis=0).tolist()
            groups = [min(rounded_up(n, _LENGTHS_MULTIPLE), max_seq_length) for n in longest]
            chosen.insert(0, PackedShape(room, tuple(groups)))
            larger = room
    return tuple(chosen)
