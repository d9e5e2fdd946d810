"""What a training run is made of between two steps: weights, slots, step; and its checkpoints."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bert_clinical import optimization
from bert_clinical.modeling import create_variables
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.precision import LossScale
from bert_clinical.nn.tensorflow import tf
from bert_clinical.weights import checkpoint
from bert_clinical.weights.matching import match_variables
from data_prep.common.atomic_files import PARTIAL_SUFFIX

_log = logging.getLogger(__name__)

_NAME = "model.ckpt-"


class TrainingState:
    """Weights, optimizer slots, loss scale and step of a run.

    Args:
      config: the model.
      random_seed: of weights that no checkpoint gives.
      dynamic_loss_scale: for float16.
      slots: with the optimizer's; evaluation needs none.

    Attributes:
      step: the number of updates made.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        random_seed: int,
        dynamic_loss_scale: bool = False,
        slots: bool = True,
    ) -> None:
        self.variables = create_variables(config, random_seed=random_seed)
        self.slots = optimization.create_slots(self.variables) if slots else {}
        self.loss_scale = LossScale(dynamic=dynamic_loss_scale)
        self.step = 0

    def initialize_from(self, prefix: str) -> None:
        """Takes the weights of a checkpoint, and says what was found in it and what was not.

        Raises:
          UserError: a tensor has another shape, is unknown, or is missing from the encoder or from
            a head that is there in part.
        """
        wanted = {name: tuple(value.shape) for name, value in self.variables.items()}
        match = match_variables(wanted, prefix)
        self._assign(prefix, match.found)
        _log.info("From %s: %d of %d variables", prefix, len(match.found), len(wanted))
        if match.missing:
            _log.info(
                "Not in it, started at random (--random_seed): %s; %d variable(s)",
                " and ".join(f"the head {group}" for group in match.missing_groups),
                len(match.missing),
            )
        if match.slots_ignored or match.step_like:
            _log.info(
                "In it and not used: %d optimizer slot(s), %d counter(s)",
                len(match.slots_ignored), len(match.step_like),
            )  # fmt: skip

    def restore(self, prefix: str) -> None:
        """Goes back to where a checkpoint of a run was written.

        Raises:
          UserError: it does not hold exactly this run's variables and slots.
        """
        everything = {**self.variables, **self.slots}
        wanted = {name: tuple(value.shape) for name, value in everything.items()}
        match = match_variables(wanted, prefix, optional_groups=())
        self._assign(prefix, match.found)
        scale = self.loss_scale.variables()
        for name, value in checkpoint.read_tensors(
            prefix, [name for name in scale if name in match.step_like]
        ).items():
            scale[name].assign(value)
        self.step = checkpoint.checkpoint_step(prefix)

    def _assign(self, prefix: str, names: Sequence[str]) -> None:
        everything = {**self.variables, **self.slots}
        for name, value in checkpoint.iterate_tensors(prefix, names):
            everything[name].assign(value)

    def is_sound(self) -> bool:
        """Tells whether the weights are numbers, and such that the next step can use them.

        A single step too large can leave weights that are still finite but whose squares are not;
        the loss would show it only after the next step.
        """
        norm = tf.linalg.global_norm([value.read_value() for value in self.variables.values()])
        return bool(tf.math.is_finite(norm))

    def save(self, folder: str | os.PathLike[str], keep: int) -> str:
        """Writes `model.ckpt-<step>`, makes it the latest, and removes what is too old.

        Args:
          folder: the run's.
          keep: how many checkpoints may stay; 0 for all.

        Returns:
          The checkpoint's prefix.

        Raises:
          UserError: it cannot be written; the older ones stay.
        """
        prefix = str(Path(folder) / f"{_NAME}{self.step}")
        checkpoint.write_checkpoint(
            prefix,
            {
                **self.variables,
                **self.slots,
                **self.loss_scale.variables(),
                checkpoint.GLOBAL_STEP: np.int64(self.step),
            },
        )
        prefixes = _checkpoints(folder)
        kept = prefixes[-keep:] if keep else prefixes
        if prefix not in kept:
            kept = [*kept[1:], prefix]
        checkpoint.update_checkpoint_state(folder, prefix, kept)
        for old in prefixes:
            if old not in kept:
                _remove(old)
        return prefix


def remove_unfinished_checkpoints(folder: str | os.PathLike[str]) -> None:
    """Removes what a kill in the middle of writing has left."""
    for path in Path(folder).glob(f"{_NAME}*{PARTIAL_SUFFIX}*"):
        path.unlink()


def _checkpoints(folder: str | os.PathLike[str]) -> list[str]:
    """Returns the prefixes of a run's checkpoints by step."""
    prefixes = [str(path.with_suffix("")) for path in Path(folder).glob(f"{_NAME}*.index")]
    numbered = [prefix for prefix in prefixes if prefix.rpartition("-")[2].isdigit()]
    return sorted(numbered, key=lambda prefix: int(prefix.rpartition("-")[2]))


def _remove(prefix: str) -> None:
    # The index first: without it nobody takes the data for a checkpoint.
    for path in [Path(f"{prefix}.index"), *Path(prefix).parent.glob(f"{Path(prefix).name}.*")]:
        path.unlink(missing_ok=True)
