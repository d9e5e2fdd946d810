"""Compiled elementwise functions give the values and gradients of those they are made from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bert_clinical.nn import compiled
from bert_clinical.nn.compiled import LEAST, in_blocks
from bert_clinical.nn.layers import gelu_erf, gelu_erf_compiled, gelu_tanh, gelu_tanh_compiled
from bert_clinical.nn.tensorflow import tf

WIDTH = 37
ANY_ROWS = tf.TensorSpec([None, WIDTH], tf.float32)


def normal(rows: int, number: int) -> tf.Tensor:
    return tf.random.stateless_normal([rows, WIDTH], [1, number]) * 3


@pytest.mark.parametrize(
    ("plain", "fast"), [(gelu_tanh, gelu_tanh_compiled), (gelu_erf, gelu_erf_compiled)]
)
@pytest.mark.parametrize("shape_is_known", [True, False])
def test_gelu(
    plain: Callable[..., tf.Tensor], fast: Callable[..., tf.Tensor], shape_is_known: bool
) -> None:
    def both(function: Callable[..., tf.Tensor]) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
        @tf.function(input_signature=None if shape_is_known else [ANY_ROWS] * 2)
        def compute(value: tf.Tensor, upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(value)
                answer = function(value)
            return answer, tape.gradient(answer, value, output_gradients=upstream)

        return compute

    for rows in (0, 3, LEAST // WIDTH + 1, 2 * LEAST // WIDTH - 1, 8192):
        given = normal(rows, 1), normal(rows, 2)
        for found, expected in zip(both(fast)(*given), both(plain)(*given), strict=True):
            assert found.shape == expected.shape
            # Two libraries' tanh, erf and exp.
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=4e-6)


def test_few_sizes_are_compiled() -> None:
    sizes = set()

    def twice(value: tf.Tensor) -> tf.Tensor:
        return value * 2.0

    for count in range(0, 3 * LEAST, 997):
        whole = int(compiled._whole_blocks(tf.constant(count, tf.int64)))
        assert 0 <= count - whole <= max(count // 128, LEAST * (whole == 0))
        sizes.add(whole)
    assert len(sizes) == 1 + 128 + 64
    run = tf.function(in_blocks(twice), input_signature=[tf.TensorSpec([None], tf.float32)])
    np.testing.assert_array_equal(run(tf.range(LEAST + 5.0)), 2 * np.arange(LEAST + 5.0))


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_shorter_numbers_are_left_alone(dtype: tf.DType) -> None:
    value = tf.cast(normal(LEAST // WIDTH + 1, 1), dtype)
    np.testing.assert_array_equal(gelu_tanh_compiled(value), gelu_tanh(value))
