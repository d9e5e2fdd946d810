"""Which evaluation on held-out data was the best, and how many have come since."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_clinical.weights.provenance import BEST_FILE, best_checkpoint
from data_prep.common import atomic_files
from data_prep.common.json_files import read_json_object

LOSS = "masked_lm_loss"


@dataclass
class Best:
    """The best evaluation so far.

    It follows from the log alone, so that a run that goes on decides as if it had never stopped.

    Attributes:
      name: of the set of examples that decides; empty if it has none.
      step: after which it was made; 0 before the first.
      loss: its masked LM loss.
      without_gain: evaluations since then.
    """

    name: str = ""
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

    def facts(self, checkpoint: str) -> dict[str, Any]:
        """Returns what the run's folder says of it; `checkpoint` is its prefix."""
        named = {"set": self.name} if self.name else {}
        return {
            "checkpoint": Path(checkpoint).name, "step": self.step, LOSS: self.loss, **named
        }  # fmt: skip


def best_of_log(
    history: Iterable[Mapping[str, Any]], name: str, is_there: Callable[[int], bool]
) -> Best:
    """Returns the best evaluation of a log.

    Args:
      history: its lines.
      name: of the set of examples that decides.
      is_there: tells whether the checkpoint of a step is there.
    """
    best = Best(name)
    for line in history:
        if line["kind"] == "held_out" and line.get("set", "") == name:
            loss = line.get(LOSS)
            if loss is not None and is_there(line["step"]):
                best.add(line["step"], float(loss))
            else:
                best.without_gain += 1
    return best


def best_of_folder(folder: Path) -> Best:
    """Returns the best evaluation that a run's folder names, for a start that evaluates nothing.

    Raises:
      UserError: the file is damaged, or its checkpoint is gone.
    """
    path = folder / BEST_FILE
    if not path.is_file():
        return Best()
    best_checkpoint(folder)
    facts = read_json_object(path)
    step, loss, name = facts.get("step"), facts.get(LOSS), facts.get("set", "")
    if isinstance(step, int) and isinstance(loss, float) and isinstance(name, str):
        return Best(name, step, loss)
    return Best()


def write_best(folder: Path, best: Best, checkpoint: str) -> None:
    """Writes `best_checkpoint.json`; `checkpoint` is the prefix of the best."""
    atomic_files.write_json(folder / BEST_FILE, best.facts(checkpoint))
