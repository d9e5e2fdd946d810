"""The shapes that compiled steps are made for."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.packing import EXACT, group_sizes
from bert_clinical.pretraining.batches import PretrainingData
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.shapes import choose_shapes, shapes_of
from tests.golden_data import golden


def data(folder: Path) -> PretrainingData:
    return PretrainingData(
        [golden("cased_128.tfrecord")],
        config=BertConfig.from_json_file(golden("model/bert_config.json")),
        max_seq_length=128, max_predictions_per_seq=20, cache_folder=folder,
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_most_batches_have_room_in_a_shape_and_half_in_the_smallest(batch_size: int) -> None:
    draw = np.random.default_rng(3)
    lengths = np.where(draw.random(5000) < 0.6, 128, draw.integers(5, 129, 5000))
    shapes = choose_shapes(lengths, batch_size, 128)
    ends = np.cumsum(group_sizes(batch_size)) - 1
    batches = np.sort(draw.choice(lengths, [2000, batch_size]))
    needed = np.column_stack([batches.sum(axis=1), batches[:, ends]])
    fits = [(needed <= [shape.rows, *shape.lengths]).all(axis=1) for shape in shapes]
    if batch_size == 1:
        # Most examples are whole: a program for less would seldom run.
        assert shapes == ()
        return
    # More than half where sizes are rounded up.
    assert 0.45 < fits[0].mean() < 0.7
    assert fits[-1].mean() > 0.6
    for smaller, larger in itertools.pairwise(fits):
        assert (larger | ~smaller).all()
    assert all(shape.rows < batch_size * 128 for shape in shapes)
    assert all(max(shape.lengths) <= 128 for shape in shapes)
    assert shapes == choose_shapes(lengths, batch_size, 128)


def test_data_without_padding_needs_no_shape() -> None:
    assert choose_shapes(np.full(100, 128), 32, 128) == ()


def test_a_step_that_is_not_compiled_takes_batches_as_they_are(tmp_path: Path) -> None:
    options = TrainingOptions()
    assert shapes_of(options, data(tmp_path), 8) == (EXACT,)
    computing = dataclasses.replace(options, skip_padding=False)
    assert shapes_of(computing, data(tmp_path), 8) == ()
    shapes = shapes_of(dataclasses.replace(options, jit_compile=True), data(tmp_path), 8)
    assert 1 <= len(shapes) <= 3
    assert EXACT not in shapes


def test_lengths_are_those_of_the_data(tmp_path: Path) -> None:
    loaded = data(tmp_path)
    integers, floats = loaded.read_blocks(np.arange(len(loaded.block_sizes)))
    masks = loaded.decoder.views(integers, floats)["input_mask"]
    # Fewer blocks than are looked at: all of them, each once.
    np.testing.assert_array_equal(loaded.sample_lengths(), masks.sum(axis=1))
