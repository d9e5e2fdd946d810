"""Asks a model everything that an audit wants to know of it, and keeps each answer at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_clinical.audit.masked_pieces import Answers, MaskedPieces, Questions
from bert_clinical.audit.membership import NoteSums
from bert_clinical.audit.secret_scores import SCORES, Rank, SecretSpace
from bert_clinical.audit.settings import AuditSettings
from bert_clinical.audit.texts import Note, Notes, questions_of
from bert_clinical.audit.unfinished import Unfinished
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.canaries.canary import Canaries, Canary
from data_prep.common.progress import Progress

_NOTES_AT_A_TIME = 16


class Asked(NamedTuple):
    """What one model answered.

    Attributes:
      ranks: number of a canary → kind of score → where its secret stands.
      told_apart: number of a canary → secrets of its draw that the vocabulary tells apart.
      sums: of members and of others, None where there are no such notes.
    """

    ranks: dict[int, dict[str, Rank]]
    told_apart: dict[int, int]
    sums: list[NoteSums | None]


def ask(
    name: str,
    model: PretrainedModel,
    canaries: Canaries | None,
    groups: Sequence[Notes | None],
    settings: AuditSettings,
    work: Unfinished,
) -> Asked:
    """Returns what a model knows, asked now where an earlier run has not asked it.

    Args:
      name: how results and progress call the model.
      model: with its masked LM head.
      canaries: to look for; None for none.
      groups: members and others.
      settings: of the audit.
      work: where the results are kept.
    """
    asker = _Asker(name, model, settings, work)
    ranks, told_apart = {}, {}
    if canaries is not None:
        with asker.progress("canaries", len(canaries.canaries)) as progress:
            for canary in canaries.canaries:
                found = asker.canary(canary, canaries.draws, progress)
                ranks[canary.number] = {kind: Rank(**found[kind]) for kind in SCORES}
                told_apart[canary.number] = found["told_apart"]
    sums = [
        None if group is None else asker.notes(kind, group.notes)
        for kind, group in zip(("members", "non_members"), groups, strict=True)
    ]
    return Asked(ranks, told_apart, sums)


class _Asker:
    def __init__(
        self, name: str, model: PretrainedModel, settings: AuditSettings, work: Unfinished
    ) -> None:
        self._name = name
        self._pieces = MaskedPieces(model, settings.batch_size)
        self._encoder = TextEncoder(model.tokenizer())
        self._max_positions = model.config.max_position_embeddings
        self._settings = settings
        self._work = work
        self._sequences = 0

    def progress(self, unit: str, total: int) -> Progress:
        return Progress(f"asking the {self._name}", unit, total=total, rate_unit="sequences")

    def canary(
        self, canary: Canary, draws: Mapping[str, Sequence[Sequence[str]]], progress: Progress
    ) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            space = SecretSpace(canary, draws[canary.draw], self._encoder, self._max_positions)
            scores = space.scores(self._answer, self._pieces.mask_id)
            ranks = {kind: space.rank(scores[kind])._asdict() for kind in SCORES}
            return {**ranks, "told_apart": space.told_apart}

        return self._kept(f"canary-{canary.number:05d}", 1, progress, make)

    def notes(self, kind: str, notes: Sequence[Note]) -> NoteSums:
        found: list[dict[str, Any]] = []
        with self.progress(f"notes ({kind})", len(notes)) as progress:
            for start in range(0, len(notes), _NOTES_AT_A_TIME):
                chunk = notes[start : start + _NOTES_AT_A_TIME]
                name = f"{kind}-{start:06d}"
                make = functools.partial(self._sums, chunk)
                found.append(self._kept(name, len(chunk), progress, make))
        return NoteSums(
            *(
                np.concatenate([np.array(part[field]) for part in found])
                for field in ("log_likelihood", "pieces", "hits")
            )
        )

    def _sums(self, notes: Sequence[Note]) -> dict[str, Any]:
        questions, owners = questions_of(
            notes,
            self._encoder,
            max_seq_length=self._settings.max_seq_length,
            mask_id=self._pieces.mask_id,
            pad_id=self._pieces.pad_id,
            seed=self._settings.random_seed,
        )
        answers = self._answer(questions)

        def total(values: np.ndarray) -> np.ndarray:
            return np.bincount(owners, values, minlength=len(notes))

        return {
            "log_likelihood": total(answers.log_probabilities).tolist(),
            "pieces": total(np.ones(len(owners))).astype(int).tolist(),
            "hits": total(answers.is_first).astype(int).tolist(),
        }

    def _kept(
        self, name: str, count: int, progress: Progress, make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        name = f"{self._name}-{name}"
        if self._work.has(name):
            progress.skip(count)
            return self._work.get(name, make)
        before = self._sequences
        found = self._work.get(name, make)
        progress.advance(count, rate=self._sequences - before)
        return found

    def _answer(self, questions: Questions) -> Answers:
        self._sequences += len(questions.ids)
        return self._pieces.answer(questions)
