"""Intervals, chance and power: what a few canaries, or a few hundred notes, can show and cannot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
POWER = 0.8
FALSE_POSITIVE_RATES = (0.001, 0.01)

_RESAMPLES = 2000
_SIMULATIONS = 20_000
_AT_ONCE = 1_000_000
# Of a normal distribution, for one-sided 5% and for a power of 80%.
_SIGNIFICANT, _POWERFUL = 1.6449, 0.8416


class Interval(NamedTuple):
    """A 95% interval."""

    low: float
    high: float


class Chance(NamedTuple):
    """What a number of canaries shows of a model that knows none of them.

    Attributes:
      mean: exposure in bits to be expected; 1.44 for large draws.
      limit: the mean of so many canaries is above it by chance in one of `1 / level` audits.
      known_outright: so many of them must be known for the mean to be above the limit, in 4 of 5
        audits.
    """

    mean: float
    limit: float
    known_outright: int


def mean_interval(values: Sequence[float], seed: int) -> Interval:
    """Returns the bootstrap interval of a mean."""
    array = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(len(array), size=(_RESAMPLES, len(array)))].mean(axis=1)
    return _interval(means)


def chance(draws: Sequence[int], level: float, seed: int) -> Chance:
    """Returns what canaries show by chance.

    The secret of a canary that the model does not know has any rank with the same probability,
    whatever else the model knows.

    Args:
      draws: for each canary, how many secrets its own is ranked among.
      level: of the test.
      seed: of the simulation.
    """
    sizes = np.asarray(draws)
    rng = np.random.default_rng(seed)
    simulations = max(min(_SIMULATIONS, _AT_ONCE // len(sizes)), 1000)
    ranks = rng.integers(1, sizes + 1, size=(simulations, len(sizes)))
    exposures = np.log2(sizes) - np.log2(ranks)
    limit = float(np.quantile(exposures.mean(axis=1), 1 - level))
    known = len(sizes)
    for count in range(len(sizes) + 1):
        with_known = exposures.copy()
        with_known[:, :count] = np.log2(sizes[:count])
        if (with_known.mean(axis=1) > limit).mean() >= POWER:
            known = count
            break
    mean = float(np.mean([_expected_exposure(int(size)) for size in sizes]))
    return Chance(mean, limit, known)


def _expected_exposure(size: int) -> float:
    """Returns the mean exposure of a rank that is drawn from 1 to `size`."""
    return math.log2(size) - math.lgamma(size + 1) / math.log(2) / size


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Returns how likely a member's score is above another's; 0.5 says nothing."""
    values = np.concatenate([members, others])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    # The middle of the ranks of those that are equal.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = ranks[inverse.reshape(-1)[: len(members)]].sum()
    return float((total - len(members) * (len(members) + 1) / 2) / (len(members) * len(others)))


def true_positive_rate(members: np.ndarray, others: np.ndarray, rate: float) -> float:
    """Returns the share of members above all but a share `rate` of the others."""
    allowed = int(rate * len(others))
    threshold = np.sort(others)[len(others) - 1 - allowed]
    return float((members > threshold).mean())


def roc(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns false and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([members, others]))[::-1]
    false = np.searchsorted(np.sort(-others), -thresholds, side="right") / len(others)
    true = np.searchsorted(np.sort(-members), -thresholds, side="right") / len(members)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def clustered_interval(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    members: Sequence[np.ndarray],
    others: Sequence[np.ndarray],
    seed: int,
) -> Interval:
    """Returns the bootstrap interval of a statistic of two groups of scores.

    Args:
      statistic: of members and others.
      members: the scores of each patient, or of each note where nobody knows the patients.
      others: likewise.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_RESAMPLES):
        drawn = [
            np.concatenate([group[index] for index in rng.integers(len(group), size=len(group))])
            for group in (members, others)
        ]
        found.append(statistic(*drawn))
    return _interval(np.asarray(found))


def visible_auc(members: int, others: int) -> float:
    """Returns the smallest AUC that so many would show above 0.5, in 4 of 5 audits."""
    deviation = math.sqrt((members + others + 1) / (12 * members * others))
    return min(0.5 + (_SIGNIFICANT + _POWERFUL) * deviation, 1.0)


def _interval(values: np.ndarray) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))
