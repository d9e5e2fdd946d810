"""The few operations that the encoder and the heads are made of."""

from __future__ import annotations

import math

from bert_clinical.quiet_tensorflow import tf

LAYER_NORM_EPSILON = 1e-12


class Dropout:
    """Dropout whose masks follow from a seed and from the place in the model alone.

    Args:
      seed: int64 [2], different for every step; None for no dropout at all.
      part: number of the part of the model; each call within a part draws a mask of its own.
    """

    _SITES_PER_PART = 16

    def __init__(self, seed: tf.Tensor | None, part: int) -> None:
        self._seed = seed
        self._next_site = part * self._SITES_PER_PART

    def __call__(self, value: tf.Tensor, rate: float) -> tf.Tensor:
        """Returns `value` with a share `rate` of it at 0 and the rest scaled up."""
        site, self._next_site = self._next_site, self._next_site + 1
        if self._seed is None or rate == 0:
            return value
        seed = self._seed + tf.constant([0, site], tf.int64)
        draws = tf.random.stateless_uniform(tf.shape(value), seed, alg="philox")
        return tf.where(draws >= rate, value * (1.0 / (1.0 - rate)), tf.zeros([], value.dtype))


def dense(
    value: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, compute_dtype: tf.DType
) -> tf.Tensor:
    """Returns `value @ kernel + bias`, compute_dtype [rows, out], for [rows, in] and [in, out]."""
    product = tf.matmul(tf.cast(value, compute_dtype), tf.cast(kernel, compute_dtype))
    return tf.nn.bias_add(product, tf.cast(bias, compute_dtype))


def layer_norm(value: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """Returns `value` float32 [rows, width] normalized over its width, then scaled and shifted."""
    mean, variance = tf.nn.moments(value, axes=[-1], keepdims=True)
    scale = tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * gamma
    return value * scale + (beta - mean * scale)


def gelu_tanh(value: tf.Tensor) -> tf.Tensor:
    """Returns Google's approximation of GELU."""
    return tf.nn.gelu(value, approximate=True)


def gelu_erf(value: tf.Tensor) -> tf.Tensor:
    """Returns GELU in its exact form."""
    return value * (0.5 * (1.0 + tf.math.erf(value * (1.0 / math.sqrt(2.0)))))
