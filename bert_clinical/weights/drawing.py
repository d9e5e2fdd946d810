"""Weights that a model begins with, where no file holds them."""

from __future__ import annotations

import numpy as np


def truncated_normal(
    rng: np.random.Generator, shape: tuple[int, ...], deviation: float
) -> np.ndarray:
    """Returns float32 weights as a new model has them: a normal distribution, cut.

    Args:
      rng: draws them.
      shape: of the weights.
      deviation: of the normal distribution, which is cut at two of them.
    """
    drawn = rng.standard_normal(shape)
    while (outside := np.abs(drawn) > 2).any():
        drawn[outside] = rng.standard_normal(int(outside.sum()))
    return (drawn * deviation).astype(np.float32)
