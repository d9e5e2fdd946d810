"""What a fine-tuning run keeps beside its output until it is complete, so that it can go on."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.tasks.data import Encoded
from bert_clinical.weights import checkpoint
from data_prep.common.atomic_files import held, sync, write_json
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.paths import make_folder

_log = logging.getLogger(__name__)

_SUFFIX = ".training"
_PROGRESS_FILE = "progress.json"
_NAME = "model.ckpt-"
_BEST = "best/"


@dataclass(frozen=True)
class Epoch:
    """What was measured at the end of a pass over the data.

    Attributes:
      number: of the pass, from 1.
      step: updates made so far.
      train_loss: mean loss of its updates.
      metrics: of the dev data by name; empty without.
    """

    number: int
    step: int
    train_loss: float
    metrics: Mapping[str, float]


@dataclass
class TrainingProgress:
    """How far a run has come.

    Attributes:
      step: updates made.
      losses: of the updates since the last epoch ended.
      epochs: those that have ended.
      best: number of the best of them, 0 for none.
      best_weights: the weights it ended with, by name, where an evaluation chooses it.
      finished: whether nothing is left to train; the weights are the best ones then.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    best_weights: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    finished: bool = False


class TrainingFolder:
    """The folder `<output_dir>.training`; it is there from the first checkpoint to the output.

    Args:
      output_dir: where the output will be.
      settings: what decides the run's result; another run's checkpoints are refused.
    """

    def __init__(self, output_dir: Path, settings: Mapping[str, Any]) -> None:
        output_dir = output_dir.resolve()
        self.path = output_dir.with_name(output_dir.name + _SUFFIX)
        self._settings = dict(settings)

    @contextmanager
    def held(self, program: str) -> Iterator[None]:
        """Keeps other runs of the same output away within the block.

        Raises:
          UserError: another one is at work.
        """
        make_folder(self.path)
        try:
            with held(self.path, program):
                yield
        finally:
            if self.path.is_dir() and not any(self.path.iterdir()):
                self.path.rmdir()

    def read(self) -> tuple[TrainingProgress, dict[str, np.ndarray]] | None:
        """Returns how far a run has come and its checkpoint's tensors, None if it has none.

        Raises:
          UserError: a run with other settings, or a file is broken.
        """
        path = self.path / _PROGRESS_FILE
        checkpoint.remove_unfinished(self.path, _NAME)
        if not path.is_file():
            # Killed before it could say of which run they are.
            for stray in self.path.glob(f"{_NAME}*"):
                stray.unlink()
            return None
        advice = f"remove {self.path} to begin anew"
        record = read_json_object(path, advice=advice)
        self._require_same(record.get("settings"), path)
        try:
            progress = TrainingProgress(
                step=int(record["step"]),
                losses=[float(loss) for loss in record["losses"]],
                epochs=[Epoch(**epoch) for epoch in record["epochs"]],
                best=int(record["best"]),
                finished=bool(record["finished"]),
            )
            name = str(record["checkpoint"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: is no record of a training run; {advice}") from None
        tensors = checkpoint.read_tensors(str(self.path / name))
        progress.best_weights = {
            key.removeprefix(_BEST): tensors.pop(key)
            for key in list(tensors)
            if key.startswith(_BEST)
        }
        return progress, tensors

    def write(self, progress: TrainingProgress, tensors: Mapping[str, Any]) -> None:
        """Saves a state; the earlier one is removed when this one is complete.

        Args:
          progress: how far the run has come.
          tensors: weights, and the optimizer's slots if there is something left to train.
        """
        ended = "-end" if progress.finished else ""
        name = f"{_NAME}{progress.step}-{len(progress.epochs)}{ended}"
        if not (self.path / f"{name}.index").is_file():
            best = {f"{_BEST}{key}": value for key, value in progress.best_weights.items()}
            step = {checkpoint.GLOBAL_STEP: np.int64(progress.step)}
            checkpoint.write_checkpoint(self.path / name, {**tensors, **best, **step})
        write_json(
            self.path / _PROGRESS_FILE,
            {
                "settings": self._settings,
                "checkpoint": name,
                "step": progress.step,
                "losses": progress.losses,
                "epochs": [asdict(epoch) for epoch in progress.epochs],
                "best": progress.best,
                "finished": progress.finished,
            },
        )
        for old in self.path.glob(f"{_NAME}*"):
            if not old.name.startswith(f"{name}."):
                old.unlink()

    def remove(self) -> None:
        """Removes the folder; the output is complete."""
        # First, so that what a kill leaves of the rest is taken for no run's.
        (self.path / _PROGRESS_FILE).unlink(missing_ok=True)
        sync(self.path)
        shutil.rmtree(self.path)

    def remove_what_is_left(self, program: str) -> None:
        """Removes the folder where a kill left it beside an output that is complete."""
        if self.path.is_dir():
            with self.held(program):
                self.remove()

    def _require_same(self, found: Any, path: Path) -> None:
        name = difference(found, self._settings)
        if name is not None:
            raise UserError(
                f"{path}: an interrupted run began with another {name}; give what it began "
                f"with and it goes on, or remove {self.path} to begin anew"
            )


def difference(found: Any, expected: Mapping[str, Any]) -> str | None:
    """Returns the first name under which settings that were recorded differ, None for none."""
    found = found if isinstance(found, dict) else {}
    names = sorted({*found, *expected})
    return next((name for name in names if found.get(name) != expected.get(name)), None)


def digest_of_examples(examples: Sequence[Encoded]) -> str:
    """Returns the SHA-256 of inputs and labels, in their order."""
    digest = hashlib.sha256()
    for example in examples:
        for values in (example.input_ids, example.segment_ids, example.label_ids):
            digest.update(np.array([len(values), *values], np.int64).tobytes())
    return digest.hexdigest()


def digest_of_weights(weights: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of weights by name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {value.shape} {value.dtype}".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
