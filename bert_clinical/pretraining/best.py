"""Which evaluation on held-out data was the best, and how many have come since."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LOSS = "masked_lm_loss"


@dataclass
class Best:
    """The best evaluation so far.

    It follows from the log alone, so that a run that goes on decides as if it had never stopped.

    Attributes:
      step: after which it was made; 0 before the first.
      loss: its masked LM loss.
      without_gain: evaluations since then.
    """

    step: int = 0
    loss: float = math.inf
    without_gain: int = 0

    def add(self, step: int, loss: float) -> bool:
        """Takes an evaluation; tells whether it is better than all before."""
        if loss < self.loss:
            self.step, self.loss, self.without_gain = step, loss, 0
            return True
        self.without_gain += 1
        return False


def best_of(
    history: Iterable[Mapping[str, Any]], name: str, is_there: Callable[[int], bool]
) -> Best:
    """Returns the best evaluation of a log.

    Args:
      history: its lines.
      name: of the set of examples that decides.
      is_there: tells whether the checkpoint of a step is there.
    """
    best = Best()
    for line in history:
        loss = line.get(LOSS)
        if line.get("kind") == "held_out" and line.get("set", "") == name and loss is not None:
            if is_there(line["step"]):
                best.add(line["step"], float(loss))
            else:
                best.without_gain += 1
    return best
