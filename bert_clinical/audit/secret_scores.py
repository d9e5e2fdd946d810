"""Where the secret of a canary ranks among all secrets of its draw, by a masked LM's scores.

Every secret of the draw is put in the sentence and scored by the pseudo-log-likelihood of its
WordPieces: the sum of their log-probabilities, each masked in turn while the others stand there
(Salazar et al. 2020), or all masked together. What is asked of the model depends only on what is
not masked, so that secrets share their questions: with all pieces masked there is one for each
number of pieces, and with one piece masked the secrets that agree in the others share one. No
score is estimated; 10,000 secrets of two pieces take some hundred sequences in place of 20,000.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bert_clinical.audit.masked_pieces import Answers, Questions
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.canaries.canary import Canary
from data_prep.common.errors import UserError

IN_TURN, TOGETHER = "in_turn", "together"
SCORES = (IN_TURN, TOGETHER)

Answer = Callable[[Questions], Answers]

_FIELD = re.compile(r"\{(\d+)\}")


class Rank(NamedTuple):
    """Where a secret stands.

    Attributes:
      rank: 1 for the likeliest; those with the same score share the middle of their ranks.
      of: secrets of the draw.
      extracted: whether it is likelier than every other one.
    """

    rank: float
    of: int
    extracted: bool

    @property
    def exposure(self) -> float:
        """In bits, from 0 to log2 of the draw (Carlini et al. 2019)."""
        return math.log2(self.of) - math.log2(self.rank)


@dataclass(frozen=True)
class _Alike:
    """Secrets whose fields have the same numbers of WordPieces.

    Attributes:
      ids: int32 [S], a sequence with the sentence around the secret.
      positions: int32 [P], where the secret's pieces stand in it.
      pieces: int32 [secrets, P].
      places: int64 [secrets], of each in the draw.
    """

    ids: np.ndarray
    positions: np.ndarray
    pieces: np.ndarray
    places: np.ndarray


class SecretSpace:
    """All secrets of a canary's draw in its sentence, as a model reads them.

    Args:
      canary: the sentence and its secret.
      fields: of the draw, each the values that it can have.
      encoder: of the model's WordPieces.
      max_positions: most WordPieces that the model takes.

    Attributes:
      size: how many secrets there are.
      told_apart: how many of them the vocabulary spells differently.

    Raises:
      UserError: the sentence is too long, or its WordPieces are not kept apart from the secret's.
    """

    def __init__(
        self,
        canary: Canary,
        fields: Sequence[Sequence[str]],
        encoder: TextEncoder,
        max_positions: int,
    ) -> None:
        sizes = tuple(map(len, fields))
        own = [values.index(value) for values, value in zip(fields, canary.secret, strict=True)]
        self._own = int(np.ravel_multi_index(own, sizes))
        self._groups = list(_groups(canary, fields, sizes, encoder))
        self.size = math.prod(sizes)
        self.told_apart = sum(len(np.unique(group.pieces, axis=0)) for group in self._groups)
        longest = max(len(group.ids) for group in self._groups)
        if longest > max_positions:
            raise UserError(
                f"canary {canary.number} has up to {longest} WordPieces, but the model takes "
                f"{max_positions}; plant shorter ones"
            )
        trained_on = [encoder.cls_id, *encoder.encode(canary.text), encoder.sep_id]
        if self._sequence(self._own) != trained_on:
            raise UserError(
                f"canary {canary.number}: WordPieces of its sentence reach into its secret; "
                "expected a space or punctuation between them"
            )

    def _sequence(self, place: int) -> list[int]:
        """Returns the sequence with a secret in it."""
        for group in self._groups:
            (row,) = np.nonzero(group.places == place)
            if len(row):
                ids = group.ids.copy()
                ids[group.positions] = group.pieces[row[0]]
                return list(map(int, ids))
        raise IndexError(place)

    def scores(self, answer: Answer, mask_id: int) -> dict[str, np.ndarray]:
        """Returns the pseudo-log-likelihood of every secret, float64 in the order of the draw.

        Args:
          answer: asks the model.
          mask_id: of [MASK].

        Returns:
          The scores by each of `SCORES`.
        """
        scores = {kind: np.empty(self.size) for kind in SCORES}
        for group in self._groups:
            scores[IN_TURN][group.places] = _in_turn(group, answer, mask_id)
            scores[TOGETHER][group.places] = _together(group, answer, mask_id)
        return scores

    def rank(self, scores: np.ndarray) -> Rank:
        """Returns where the canary's own secret stands."""
        own = scores[self._own]
        better, alike = int((scores > own).sum()), int((scores == own).sum()) - 1
        return Rank(1 + better + alike / 2, self.size, not better and not alike)


def _groups(
    canary: Canary, fields: Sequence[Sequence[str]], sizes: tuple[int, ...], encoder: TextEncoder
) -> Iterator[_Alike]:
    parts = _FIELD.split(canary.sentence)
    around = [encoder.encode(text) for text in parts[::2]]
    order = [int(number) for number in parts[1::2]]
    if sorted(order) != list(range(len(fields))):
        raise UserError(
            f"canary {canary.number}: its sentence does not hold each of the {len(fields)} fields "
            "of its draw once; give the file that plant_canaries wrote"
        )
    # Field → number of pieces → the values of so many: their places in the field and their ids.
    by_length: list[dict[int, list[tuple[int, list[int]]]]] = []
    for values in fields:
        found: dict[int, list[tuple[int, list[int]]]] = {}
        for place, value in enumerate(values):
            ids = encoder.encode(value)
            found.setdefault(len(ids), []).append((place, ids))
        by_length.append(found)
    for lengths in itertools.product(*by_length):
        chosen = [of[length] for of, length in zip(by_length, lengths, strict=True)]
        rows = np.indices([len(values) for values in chosen]).reshape(len(chosen), -1)
        places = [
            np.array([place for place, _ in values])[row]
            for values, row in zip(chosen, rows, strict=True)
        ]
        pieces = [
            np.array([ids for _, ids in values], np.int32)[row]
            for values, row in zip(chosen, rows, strict=True)
        ]
        sequence = [encoder.cls_id, *around[0]]
        positions: list[int] = []
        for field, after in zip(order, around[1:], strict=True):
            positions += range(len(sequence), len(sequence) + lengths[field])
            sequence += [0] * lengths[field] + after
        yield _Alike(
            np.array([*sequence, encoder.sep_id], np.int32),
            np.array(positions, np.int32),
            np.concatenate([pieces[field] for field in order], axis=1),
            np.ravel_multi_index(places, sizes),
        )


def _together(group: _Alike, answer: Answer, mask_id: int) -> np.ndarray:
    """Returns the scores of a group with all pieces masked: one sequence."""
    ids = group.ids.copy()
    ids[group.positions] = mask_id
    count = len(group.positions)
    total = np.zeros(len(group.pieces))
    columns = [np.unique(group.pieces[:, column], return_inverse=True) for column in range(count)]
    asked = [
        (np.full(len(unique), column, np.int32), unique)
        for column, (unique, _) in enumerate(columns)
    ]
    place, piece = (np.concatenate(part) for part in zip(*asked, strict=True))
    logs = answer(
        Questions(
            ids[None], np.array([len(ids)], np.int32), group.positions[None],
            np.zeros(len(place), np.int32), place, piece,
        )
    ).log_probabilities  # fmt: skip
    start = 0
    for unique, inverse in columns:
        total += logs[start : start + len(unique)].astype(np.float64)[inverse]
        start += len(unique)
    return total


def _in_turn(group: _Alike, answer: Answer, mask_id: int) -> np.ndarray:
    """Returns the scores of a group with one piece masked at a time."""
    total = np.zeros(len(group.pieces))
    for column, position in enumerate(group.positions):
        others = np.delete(group.pieces, column, axis=1)
        unique, sequence = _unique_rows(others)
        ids = np.repeat(group.ids[None], len(unique), axis=0)
        ids[:, np.delete(group.positions, column)] = unique
        ids[:, position] = mask_id
        order = np.argsort(sequence, kind="stable")
        logs = answer(
            Questions(
                ids, np.full(len(ids), ids.shape[1], np.int32),
                np.full((len(ids), 1), position, np.int32), sequence[order].astype(np.int32),
                np.zeros(len(order), np.int32), group.pieces[order, column],
            )
        ).log_probabilities  # fmt: skip
        total[order] += logs
    return total


def _unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the different rows, and for each row which of them it is."""
    if not rows.shape[1]:
        return rows[:1], np.zeros(len(rows), np.int64)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    # NumPy 2.0 gave it another shape.
    return unique, inverse.reshape(-1)
