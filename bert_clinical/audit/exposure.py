"""Exposure of canaries by how often they were planted, held against chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_clinical.audit import statistics
from bert_clinical.audit.secret_scores import IN_TURN, SCORES, TOGETHER, Rank
from data_prep.canaries.canary import Canary

_LEVEL = 1 - statistics.CONFIDENCE


def level_of_each(repetitions: Sequence[int]) -> float:
    """Returns the level of each test, so that all, at every count by every score, err in 5%."""
    return _LEVEL / (len(SCORES) * max(sum(count > 0 for count in set(repetitions)), 1))


def by_repetitions(
    canaries: Sequence[Canary], ranks: Mapping[int, Mapping[str, Rank]], seed: int
) -> dict[str, dict[str, Any]]:
    """Returns what is measured at each repetition count, by the count as JSON has it.

    The first figures are those with each WordPiece masked in turn; `together` has those with all
    masked at once.

    Args:
      canaries: all of them.
      ranks: number of a canary → kind of score → where its secret stands.
      seed: of intervals and simulations.
    """
    counts = sorted({canary.repetitions for canary in canaries})
    level = level_of_each(counts)
    found = {}
    for count in counts:
        group = [ranks[canary.number] for canary in canaries if canary.repetitions == count]
        chance = statistics.chance([rank[IN_TURN].of for rank in group], level, seed)
        found[str(count)] = {
            "canaries": len(group),
            **_measured([rank[IN_TURN] for rank in group], chance, seed),
            TOGETHER: _measured([rank[TOGETHER] for rank in group], chance, seed),
            "chance": chance._asdict(),
        }
    return found


def _measured(ranks: Sequence[Rank], chance: statistics.Chance, seed: int) -> dict[str, Any]:
    exposures = [rank.exposure for rank in ranks]
    mean = float(np.mean(exposures))
    return {
        "mean_bits": mean,
        "interval": list(statistics.mean_interval(exposures, seed)),
        "extracted": float(np.mean([rank.extracted for rank in ranks])),
        "above_chance": mean > chance.limit,
    }
