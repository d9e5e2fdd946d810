"""What a training run is made of between two steps: weights, slots, step; and its checkpoints."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from bert_clinical import optimization
from bert_clinical.modeling import create_variables
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.precision import LossScale
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.worker_agreement import WorkerAgreement
from bert_clinical.weights import checkpoint
from bert_clinical.weights.matching import match_variables
from bert_clinical.weights.provenance import checkpoint_fingerprint
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

_NAME = "model.ckpt-"

_SECONDS_BETWEEN_LOOKS = 0.5


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
        require_checkpoint_of_run(prefix)
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

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Writes `model.ckpt-<step>`, which `keep_newest` makes the latest; returns its prefix.

        Raises:
          UserError: it cannot be written; the older ones stay.
        """
        prefix = checkpoint_prefix(folder, self.step)
        checkpoint.write_checkpoint(
            prefix,
            {
                **self.variables,
                **self.slots,
                **self.loss_scale.variables(),
                checkpoint.GLOBAL_STEP: np.int64(self.step),
            },
        )
        return prefix


def new_state(
    config: BertConfig, options: TrainingOptions, strategy: tf.distribute.Strategy | None
) -> TrainingState:
    """Returns a run's state before its first step, with random weights.

    Args:
      config: the model.
      options: `random_seed` and `precision` are read.
      strategy: of several devices, each of which holds a copy. None for one device.
    """
    with strategy.scope() if strategy else nullcontext():
        return TrainingState(
            config,
            random_seed=options.random_seed,
            dynamic_loss_scale=options.precision == "mixed_float16",
        )


def keep_newest(
    folder: str | os.PathLike[str], latest: str, keep: int, *, best_step: int = 0
) -> None:
    """Makes a checkpoint the latest, and removes what is too old.

    Args:
      folder: the run's.
      latest: the prefix of a checkpoint that was written.
      keep: how many checkpoints may stay, the newest; 0 for all.
      best_step: the step of one that stays however old it is; 0 for none.
    """
    prefixes = _checkpoints(folder)
    kept = prefixes[-keep:] if keep else prefixes
    if latest not in kept:
        kept = [*kept[1:], latest]
    best = checkpoint_prefix(folder, best_step)
    if best in prefixes and best not in kept:
        kept = [best, *kept]
    checkpoint.update_checkpoint_state(folder, latest, kept)
    for old in prefixes:
        if old not in kept:
            _remove(old)


def checkpoint_prefix(folder: str | os.PathLike[str], step: int) -> str:
    """Returns the prefix of a run's checkpoint of a step."""
    return str(Path(folder) / f"{_NAME}{step}")


def require_checkpoint_of_run(prefix: str) -> None:
    """Checks that a checkpoint is one to go on from, and not just a model's weights.

    Raises:
      UserError: it holds no slots of the optimizer.
    """
    if not any(name.endswith(optimization.SLOTS) for name in checkpoint.tensor_shapes(prefix)):
        folder, name = Path(prefix).parent, Path(prefix).name
        raise UserError(
            f"--output_dir: {folder} holds a model ({name}) and no run to go on with; to train on "
            f"from that model give --init_checkpoint={prefix} and another --output_dir"
        )


def latest_checkpoint_of_all(folder: Path, agreement: WorkerAgreement) -> str | None:
    """Returns the checkpoint from which all workers go on: the chief's latest, None if it has none.

    A folder that machines share may show a file to one of them seconds after another wrote it:
    the others wait until they see the chief's.

    Args:
      folder: the run's, as this worker names it.
      agreement: of the workers.

    Raises:
      UserError: a worker does not see it within its cluster's `timeout_seconds`.
    """
    own = checkpoint.latest_checkpoint(folder)
    chiefs = agreement.of_chief(own and [Path(own).name, checkpoint_fingerprint(own)])
    if chiefs is None or agreement.cluster is None:
        return own if chiefs else None
    name, fingerprint = chiefs
    prefix = str(folder / name)
    with agreement.together():
        end = time.monotonic() + agreement.cluster.timeout_seconds
        while not _is_there(prefix, fingerprint):
            if time.monotonic() > end:
                raise UserError(
                    f"--output_dir: {folder} does not hold the {name} that the first worker goes "
                    "on from; all workers need one folder that their machines share"
                )
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return prefix


def _is_there(prefix: str, fingerprint: str) -> bool:
    try:
        checkpoint.resolve_checkpoint(prefix)
        return checkpoint_fingerprint(prefix) == fingerprint
    except (UserError, FileNotFoundError):
        return False


def remove_unfinished_checkpoints(folder: str | os.PathLike[str]) -> None:
    """Removes what a kill in the middle of writing has left."""
    checkpoint.remove_unfinished(folder, _NAME)


def _checkpoints(folder: str | os.PathLike[str]) -> list[str]:
    """Returns the prefixes of a run's checkpoints by step."""
    prefixes = [str(path.with_suffix("")) for path in Path(folder).glob(f"{_NAME}*.index")]
    numbered = [prefix for prefix in prefixes if prefix.rpartition("-")[2].isdigit()]
    return sorted(numbered, key=lambda prefix: int(prefix.rpartition("-")[2]))


def _remove(prefix: str) -> None:
    # The index first: without it nobody takes the data for a checkpoint.
    for path in [Path(f"{prefix}.index"), *Path(prefix).parent.glob(f"{Path(prefix).name}.*")]:
        path.unlink(missing_ok=True)
