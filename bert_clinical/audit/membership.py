"""Whether the notes that a model was trained on can be told from those that it never saw.

A note's score is the mean over its WordPieces of the log-probability of each, masked, under the
model, less that under the reference: what the training has added (Mireshghallah et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bert_clinical.audit import statistics
from bert_clinical.audit.texts import Note

ROC_POINTS = 200


@dataclass(frozen=True)
class NoteSums:
    """What a model makes of notes, for each of them.

    Attributes:
      log_likelihood: float64 [notes], sums over their WordPieces.
      pieces: int64 [notes].
      hits: int64 [notes], WordPieces that the model holds likeliest of all.
    """

    log_likelihood: np.ndarray
    pieces: np.ndarray
    hits: np.ndarray

    def accuracy(self) -> float:
        """Returns the share of all masked WordPieces that the model gets right."""
        return float(self.hits.sum() / self.pieces.sum())


def most_frequent_share(notes: Sequence[Note]) -> float:
    """Returns the share that one guess gets right, the most frequent WordPiece."""
    ids = np.concatenate([np.asarray(note.ids) for note in notes])
    return float(np.bincount(ids).max() / len(ids))


@dataclass(frozen=True)
class Group:
    """One side of the comparison: notes that were trained on, or notes that were not.

    Attributes:
      notes: the notes.
      model: what the trained model makes of them.
      reference: likewise; None without a reference.
    """

    notes: Sequence[Note]
    model: NoteSums
    reference: NoteSums | None

    def gains(self) -> np.ndarray:
        """Returns float64 [notes], sums of what the training has added."""
        reference = 0.0 if self.reference is None else self.reference.log_likelihood
        return self.model.log_likelihood - reference

    def patients(self) -> list[np.ndarray]:
        """Returns for each patient the places of the notes; each note is one if nobody knows."""
        found: dict[object, list[int]] = {}
        for place, note in enumerate(self.notes):
            found.setdefault(place if note.patient is None else note.patient, []).append(place)
        return [np.array(places) for places in found.values()]


def measure(members: Group, others: Group, *, by_patient: bool, seed: int) -> dict[str, Any]:
    """Returns how well members can be told from others.

    Args:
      members: notes that the model was trained on.
      others: notes that it never saw.
      by_patient: whether it is known whose the notes are.
      seed: of the intervals.
    """
    groups = (members, others)
    scores = [group.gains() / group.model.pieces for group in groups]
    patients = [group.patients() for group in groups]
    clusters = [
        [values[places] for places in own] for values, own in zip(scores, patients, strict=True)
    ]
    result = {
        "with_reference": members.reference is not None,
        **_measured(scores, clusters, seed),
        "by_patient": None,
        "roc": _roc(*scores),
    }
    if by_patient:
        of_patients = [
            np.array([group.gains()[p].sum() / group.model.pieces[p].sum() for p in own])
            for group, own in zip(groups, patients, strict=True)
        ]
        alone = [[np.array([value]) for value in values] for values in of_patients]
        result["by_patient"] = _measured(of_patients, alone, seed)
    return result


def _measured(
    scores: Sequence[np.ndarray], clusters: Sequence[Sequence[np.ndarray]], seed: int
) -> dict[str, Any]:
    """Returns the figures.

    Args:
      scores: of members and of others.
      clusters: the same scores, by what is drawn together for the interval.
      seed: of the interval.
    """
    members, others = scores
    members_of, others_of = clusters
    rates = {
        str(rate): statistics.true_positive_rate(members, others, rate)
        for rate in statistics.FALSE_POSITIVE_RATES
    }
    interval = statistics.clustered_interval(statistics.auc, members_of, others_of, seed)
    return {
        "members": len(members),
        "non_members": len(others),
        "auc": statistics.auc(members, others),
        "interval": list(interval),
        "true_positive_rate": rates,
        "smallest_visible_auc": statistics.visible_auc(len(members_of), len(others_of)),
    }


def _roc(members: np.ndarray, others: np.ndarray) -> dict[str, list[float]]:
    """Returns the curve at no more points than a chart shows."""
    false, true = statistics.roc(members, others)
    kept = np.unique(np.linspace(0, len(false) - 1, ROC_POINTS).astype(int))
    return {
        "false_positive_rate": false[kept].tolist(),
        "true_positive_rate": true[kept].tolist(),
    }
