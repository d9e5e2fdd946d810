"""The few operations that the encoder and the heads are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

from bert_clinical.nn.compiled import Elementwise, in_blocks
from bert_clinical.nn.tensorflow import tf

LAYER_NORM_EPSILON = 1e-12

_TANH_FACTOR = math.sqrt(2.0 / math.pi)
_CUBE_FACTOR = 0.044715


class Dropout:
    """Dropout whose masks follow from a seed and from the place in the model alone.

    Args:
      seed: int64 [2], different for every step; None for no dropout at all.
      part: number of the part of the model; each call within a part draws a mask of its own.
    """

    _SITES_PER_PART = 16
    BITS = 16
    """Random bits a value: enough for a rate to 1e-5, and half the work of a float32."""

    def __init__(self, seed: tf.Tensor | None, part: int) -> None:
        self._seed = seed
        self._next_site = part * self._SITES_PER_PART

    def __call__(self, value: tf.Tensor, rate: float) -> tf.Tensor:
        """Returns `value` with a share `rate` of it, below 1, at 0 and the rest scaled up."""
        site, self._next_site = self._next_site, self._next_site + 1
        if self._seed is None or rate == 0:
            return value
        seed = self._seed + tf.constant([0, site], tf.int64)
        # The largest value stays where a rate rounds to all of them.
        threshold = min(round(rate * 2**self.BITS), 2**self.BITS - 1)
        kept = self._draws(tf.shape(value), seed) >= tf.constant(threshold, tf.uint16)
        return tf.where(kept, value * (1.0 / (1.0 - rate)), tf.zeros([], value.dtype))

    @classmethod
    def _draws(cls, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns uint16 of that shape, all values alike."""
        count = tf.reduce_prod(shape)
        per_word = 64 // cls.BITS
        words = tf.random.stateless_uniform(
            [(count + per_word - 1) // per_word], seed, minval=None, maxval=None,
            dtype=tf.uint64, alg="philox",
        )  # fmt: skip
        return tf.reshape(tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count], shape)


def dense(
    value: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, compute_dtype: tf.DType
) -> tf.Tensor:
    """Returns `value @ kernel + bias`, compute_dtype [rows, out], for [rows, in] and [in, out]."""
    product = _widened if kernel.shape[0] < kernel.shape[1] else tf.matmul
    answer = product(tf.cast(value, compute_dtype), tf.cast(kernel, compute_dtype))
    return tf.nn.bias_add(answer, tf.cast(bias, compute_dtype))


@tf.custom_gradient
def _widened(
    value: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Returns `value @ kernel`, whose gradient turns the kernel over before it multiplies by it.

    With AVX-512 oneDNN takes a quarter longer for a product with the transpose of a wide kernel
    than for turning it over and the plain product.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # As a batch of one: TensorFlow would make a matrix's transposition part of the product.
        turned = tf.linalg.matrix_transpose(kernel[tf.newaxis])[0]
        return tf.matmul(upstream, turned), tf.matmul(value, upstream, transpose_a=True)

    return tf.matmul(value, kernel), gradient


def layer_norm(value: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """Returns `value` float32 [rows, width] normalized over its width, then scaled and shifted.

    The gradient is written out, so that only the normalized values are kept for it.
    """

    @tf.custom_gradient
    def compute(
        value: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]]:
        centered = value - tf.reduce_mean(value, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(variance + LAYER_NORM_EPSILON)
        normalized = centered * inverse

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            product = upstream * normalized
            scaled = upstream * gamma
            common = tf.reduce_mean(scaled, axis=-1, keepdims=True)
            along = tf.reduce_mean(scaled * normalized, axis=-1, keepdims=True)
            of_value = (scaled - common - normalized * along) * inverse
            return of_value, tf.reduce_sum(product, axis=0), tf.reduce_sum(upstream, axis=0)

        return normalized * gamma + beta, gradient

    return compute(value, gamma, beta)


def _tanh_form(value: tf.Tensor) -> tf.Tensor:
    return value * _share(tf.square(value), value)


def _tanh_form_gradient(value: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    square = tf.square(value)
    share = _share(square, value)
    slope = 2.0 * _TANH_FACTOR + 6.0 * _TANH_FACTOR * _CUBE_FACTOR * square
    return upstream * (share + value * share * (1.0 - share) * slope)


def _share(square: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Returns `0.5 * (1 + tanh(x))` as `sigmoid(2 * x)`, whose digits do not cancel far below 0."""
    return tf.sigmoid(value * (2.0 * _TANH_FACTOR + 2.0 * _TANH_FACTOR * _CUBE_FACTOR * square))


def _erf_form(value: tf.Tensor) -> tf.Tensor:
    return value * _cumulative(value)


def _erf_form_gradient(value: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    density = tf.exp(-0.5 * value * value) * (1.0 / math.sqrt(2.0 * math.pi))
    return upstream * (_cumulative(value) + value * density)


def _cumulative(value: tf.Tensor) -> tf.Tensor:
    return 0.5 + 0.5 * tf.math.erf(value * math.sqrt(0.5))


def _with_gradient(compute: Elementwise, gradient: Elementwise) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of one tensor, for whose gradient that tensor alone is kept."""

    @tf.custom_gradient
    def activation(value: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return compute(value), lambda upstream: gradient(value, upstream)

    return activation


gelu_tanh = _with_gradient(_tanh_form, _tanh_form_gradient)
"""Google's approximation of GELU."""

gelu_erf = _with_gradient(_erf_form, _erf_form_gradient)
"""GELU in its exact form."""

gelu_tanh_compiled = _with_gradient(in_blocks(_tanh_form), in_blocks(_tanh_form_gradient))
gelu_erf_compiled = _with_gradient(in_blocks(_erf_form), in_blocks(_erf_form_gradient))
