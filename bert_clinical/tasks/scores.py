"""Precision, recall and F1; entities in BIO labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OUTSIDE = "O"


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1 of one kind of thing; each 0 where it would divide by 0.

    Attributes:
      correct: how many were predicted and true.
      predicted: how many were predicted.
      true: how many there are.
    """

    correct: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the predicted ones that are true."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true ones that were predicted."""
        return self.correct / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.predicted + self.true
        return 2 * self.correct / total if total else 0.0

    def to_dict(self) -> dict[str, float | int]:
        """Returns what a results file says."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "support": self.true,
        }


def entities(labels: Sequence[str]) -> set[tuple[str, int, int]]:
    """Returns the entities of a sentence as (type, first word, last word).

    An entity begins at a `B`, and at an `I` that follows `O` or another type. The type of bare `B`
    and `I` is "".
    """
    found = set()
    begin, current = 0, None
    for index, label in enumerate([*labels, OUTSIDE]):
        mark, kind = label[:1], label[2:]
        goes_on = mark == "I" and kind == current
        if current is not None and not goes_on:
            found.add((current, begin, index - 1))
            current = None
        if mark != OUTSIDE and current is None:
            begin, current = index, kind
    return found


def entity_scores(
    true: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]
) -> tuple[Score, dict[str, Score]]:
    """Returns the score over all entities, and each type's.

    An entity counts as correct if type, first and last word agree.

    Args:
      true: the labels of each sentence's words.
      predicted: as many.

    Source: conlleval and seqeval's default; the figures are seqeval's (micro average), which golden
      data holds them to. That package can be installed (`pip install --no-deps seqeval`) but not
      imported without scikit-learn, a dependency too large for what is twenty lines here.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("correct", "predicted", "true")}
    for true_labels, predicted_labels in zip(true, predicted, strict=True):
        there, said = entities(true_labels), entities(predicted_labels)
        for name, found in (("correct", there & said), ("predicted", said), ("true", there)):
            counts[name].update(kind for kind, _, _ in found)
    kinds = sorted({*counts["predicted"], *counts["true"]})
    by_type = {
        kind: Score(*(counts[name][kind] for name in ("correct", "predicted", "true")))
        for kind in kinds
    }
    overall = Score(*(counts[name].total() for name in ("correct", "predicted", "true")))
    return overall, by_type


def table_of_scores(head: str, scores: Mapping[str, Score]) -> list[str]:
    """Returns a table, a line a string, of precision, recall, F1 and support."""
    width = max(len(head), *map(len, scores))
    lines = [f"{head:<{width}} precision    recall        f1   support"]
    lines += [
        f"{name:<{width}} {score.precision:>9.4f} {score.recall:>9.4f} {score.f1:>9.4f} "
        f"{score.true:>9,}"
        for name, score in scores.items()
    ]
    return lines
