"""spaCy's window encoder, computed once for each distinct window instead of once for each token.

A layer sees a token and its two neighbours, so its answer hangs on these three alone; clinical text
repeats itself. A text's vectors do not depend on the other texts of a batch, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_prep.common.compiled import compiled, compiled_part
from data_prep.sentences.compiled_product import product

_NORM_EPSILON = 1e-8


class WindowLayer(NamedTuple):
    """A residual layer: maxout over three neighbours, then layer normalization.

    Attributes:
      weights: float32 [width, 3 * pieces * width]: left neighbour, token, right neighbour.
      bias: float32 [pieces * width].
      scale, shift: float32 [width], of the normalization.
    """

    weights: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


def encode(
    layers: list[WindowLayer], vectors: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Encodes a sequence of tokens.

    Args:
      layers: of the encoder.
      vectors: float32 [distinct, width].
      numbers: int64 [n], the vector of each place. Texts have one place for each layer between
        them, before the first and after the last, of a vector of zeros.

    Returns:
      float32 [other distinct, width] and int64 [n - 2 * layers]: as `vectors` and `numbers`, for
      the places that are left when one at each end falls away with each layer.
    """
    for layer in layers:
        windows = (numbers[:-2], numbers[1:-1], numbers[2:])
        numbers, firsts = distinct_triples(*windows)
        left, middle, right = (window[firsts] for window in windows)
        products = product(vectors, layer.weights)
        vectors = _window_layer(layer, vectors, products, left, middle, right)
    return vectors, numbers


@compiled
def distinct_triples(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the triples `(a[i], b[i], c[i])` in the order of their first occurrence.

    Args:
      a, b, c: integers [n].

    Returns:
      int64 [n], each triple's number, and int64 [distinct], where each was first seen.
    """
    size = 16
    while size < 2 * len(a):
        size *= 2
    slots = np.full(size, -1, np.int64)
    numbers = np.empty(len(a), np.int64)
    firsts = np.empty(len(a), np.int64)
    count = 0
    for i in range(len(a)):
        key = np.uint64(a[i]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b[i])
        key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(c[i])
        key = (key ^ (key >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
        slot = np.int64(key >> np.uint64(32)) & (size - 1)
        while True:
            number = slots[slot]
            if number < 0:
                slots[slot] = number = count
                firsts[count] = i
                count += 1
                break
            first = firsts[number]
            if a[first] == a[i] and b[first] == b[i] and c[first] == c[i]:
                break
            slot = (slot + 1) & (size - 1)
        numbers[i] = number
    return numbers, firsts[:count].copy()


@compiled
def _window_layer(
    layer: WindowLayer,
    vectors: np.ndarray,
    products: np.ndarray,
    left: np.ndarray,
    middle: np.ndarray,
    right: np.ndarray,
) -> np.ndarray:
    width = vectors.shape[1]
    wide = len(layer.bias)
    answers = np.empty((len(middle), width), np.float32)
    room = np.empty(wide, np.float32)
    for i in range(len(middle)):
        from_left = products[left[i], :wide]
        from_middle = products[middle[i], wide : 2 * wide]
        from_right = products[right[i], 2 * wide :]
        for j in range(wide):
            room[j] = from_left[j] + from_middle[j] + from_right[j] + layer.bias[j]
        for piece in range(width, wide, width):
            for j in range(width):
                room[j] = max(room[j], room[piece + j])
        mean = _sum(room[:width]) / np.float32(width)
        for j in range(width):
            room[j] -= mean
        variance = _sum_of_squares(room[:width]) / np.float32(width) + np.float32(_NORM_EPSILON)
        factor = np.float32(1.0) / np.sqrt(variance)
        before = vectors[middle[i]]
        answer = answers[i]
        for j in range(width):
            answer[j] = before[j] + (room[j] * factor * layer.scale[j] + layer.shift[j])
    return answers


@compiled_part
def _sum(values):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for i in range(len(values)):
        total += values[i]
    return total


@compiled_part
def _sum_of_squares(values):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for i in range(len(values)):
        total += values[i] * values[i]
    return total
