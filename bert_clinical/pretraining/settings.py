"""The settings that a run's weights came from, as they stand in its folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.layers import Dropout
from bert_clinical.optimization import Schedule
from bert_clinical.pretraining.options import TrainingOptions
from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.json_files import ANY_NAME, read_json_object, require_shape

_log = logging.getLogger(__name__)

SETTINGS_FILE = "training_flags.json"

_SCHEDULE = (
    "learning_rate",
    "num_train_steps",
    "num_warmup_steps",
    "learning_rate_schedule",
    "decay_steps",
)
_DECISIVE = (
    "max_seq_length",
    "max_predictions_per_seq",
    "train_batch_size",
    *_SCHEDULE,
    "random_seed",
    "gelu",
    "precision",
    "gradient_accumulation_steps",
    "jit_compile",
    "skip_padding",
)
"""What changes the weights that come out; the rest may change between two starts."""

_MASK_BITS = "dropout_mask_bits"
"""No flag: from how many random bits a value the masks of a model with dropout are drawn."""

_WITHOUT_A_CHOICE: dict[str, Any] = {
    "learning_rate_schedule": "linear",
    "decay_steps": 0,
    "skip_padding": False,
}
"""What a run did whose record does not say it: versions without the flag knew only this."""

_EARLIER_MASK_BITS = 32
"""Of versions before `skip_padding`."""


def schedule_of(options: TrainingOptions) -> Schedule:
    """Returns the learning rates that a run's settings ask for."""
    values = options.to_dict()
    return Schedule(*(values[name] for name in _SCHEDULE))


def decisive_settings(
    options: TrainingOptions, config: BertConfig, input_files: Sequence[str]
) -> dict[str, Any]:
    """Returns what two starts of one run must have in common.

    Files count by name and size, so that a folder can be moved; the model's shape and rates count
    as one value.
    """
    data = "\n".join(f"{Path(path).name} {Path(path).stat().st_size}" for path in input_files)
    values = options.to_dict()
    drops = config.hidden_dropout_prob or config.attention_probs_dropout_prob
    return {
        **{name: values[name] for name in _DECISIVE},
        **({_MASK_BITS: Dropout.BITS} if drops else {}),
        "bert_config_file": fingerprint(config.to_json_string()),
        "input_file": f"{len(input_files)} file(s), {fingerprint(data)}",
    }


def write_settings(output_dir: Path, settings: Mapping[str, Any]) -> None:
    """Keeps the settings that the weights in a run's folder came from."""
    atomic_files.write_json(output_dir / SETTINGS_FILE, dict(settings))


def require_same_settings(output_dir: Path, settings: Mapping[str, Any], step: int) -> None:
    """Checks that a run goes on with what it came from.

    Schedules may differ in steps that are still to be made. What a record of an earlier version
    does not say counts as what that version did.

    Args:
      output_dir: the run's folder.
      settings: of this start.
      step: the number of steps made.

    Raises:
      UserError: something differs that changes the weights; names each flag with both values.
    """
    path = output_dir / SETTINGS_FILE
    if not path.is_file():
        _log.warning("%s is missing: whether the run began with the same flags is not known", path)
        return
    advice = "remove it, or choose another --output_dir"
    record = read_json_object(path, advice=advice)
    require_shape(record, {ANY_NAME: (str, int, float, bool, type(None))}, str(path), advice=advice)
    bits = Dropout.BITS if "skip_padding" in record else _EARLIER_MASK_BITS
    before = {**_WITHOUT_A_CHOICE, _MASK_BITS: bits, **record}
    unknown = object()
    changed = [name for name in settings if before.get(name, unknown) != settings[name]]
    if _same_rates(before, settings, step):
        changed = [name for name in changed if name not in _SCHEDULE]
    if not changed:
        return
    differences = [
        f"--{name} was {before.get(name, 'not recorded')!s:.99}, now {settings[name]}"
        for name in changed
        if name != _MASK_BITS
    ]
    if _MASK_BITS in changed:
        raise UserError(
            f"{output_dir} holds a run whose dropout masks only the earlier version that began it "
            f"draws{''.join(f'; {text}' for text in differences)}; end it with that version, "
            "choose another --output_dir, or add --allow_flag_changes to go on with other masks"
        )
    raise UserError(
        f"{output_dir} holds a run with other flags: {'; '.join(differences)}; give the former "
        "ones, choose another --output_dir, or add --allow_flag_changes to go on with the new"
    )


def _same_rates(before: Mapping[str, Any], now: Mapping[str, Any], step: int) -> bool:
    """Tells whether two schedules gave the steps before `step` the same rates."""
    # Whatever else a damaged file holds, or does not hold, is another setting.
    if any(type(before.get(name)) is not type(now[name]) for name in _SCHEDULE):
        return False
    one, other = (Schedule(*(values[name] for name in _SCHEDULE)) for values in (before, now))
    return one.is_same_until(step, other)


def fingerprint(text: str) -> str:
    """Returns a short digest that tells a text from others in a message."""
    return "sha256 " + hashlib.sha256(text.encode()).hexdigest()[:12]
