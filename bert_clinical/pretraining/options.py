"""Everything that a training run is told; knows no TensorFlow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bert_clinical.nn.config import BertConfig
from data_prep.common import atomic_files
from data_prep.common.errors import UserError

FLAGS_FILE = "training_flags.json"
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
GELU_FORMS = ("tanh", "erf")


@dataclass(frozen=True)
class TrainingOptions:
    """The settings of a run, named as the flags of `run_pretraining`.

    Attributes:
      max_seq_length: WordPieces in a sequence.
      max_predictions_per_seq: predictions in a sequence.
      train_batch_size: examples of an update, over all devices and parts.
      learning_rate: where the schedule begins.
      num_train_steps: updates in the whole run.
      num_warmup_steps: updates during which the learning rate rises.
      save_checkpoints_steps: updates between two checkpoints.
      iterations_per_loop: most updates in a compiled call.
      keep_checkpoint_max: how many checkpoints stay; 0 for all.
      random_seed: of weights, dropout and the order of the data.
      gelu: "tanh" or "erf".
      precision: "float32", "mixed_bfloat16" or "mixed_float16".
      gradient_accumulation_steps: parts into which a batch is divided to save memory.
      recompute_grad: compute activations again for the gradient, to save memory.
      jit_compile: compile by XLA.
      log_every: updates between two lines of the log.
      eval_every: updates between two evaluations of held-out data; 0 for none.
      eval_batch_size: examples of an evaluation's batch.
      max_eval_steps: batches of an evaluation.
    """

    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    train_batch_size: int = 32
    learning_rate: float = 5e-5
    num_train_steps: int = 100000
    num_warmup_steps: int = 10000
    save_checkpoints_steps: int = 1000
    iterations_per_loop: int = 1000
    keep_checkpoint_max: int = 5
    random_seed: int = 12345
    gelu: str = "tanh"
    precision: str = "float32"
    gradient_accumulation_steps: int = 1
    recompute_grad: bool = False
    jit_compile: bool = False
    log_every: int = 100
    eval_every: int = 0
    eval_batch_size: int = 8
    max_eval_steps: int = 100

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings by name."""
        return asdict(self)


_DECISIVE = (
    "max_seq_length",
    "max_predictions_per_seq",
    "train_batch_size",
    "learning_rate",
    "num_train_steps",
    "num_warmup_steps",
    "random_seed",
    "gelu",
    "precision",
    "gradient_accumulation_steps",
    "jit_compile",
)
"""What changes the weights that come out; the rest may change between two starts."""


def decisive_settings(
    options: TrainingOptions, config: BertConfig, input_files: Sequence[str]
) -> dict[str, Any]:
    """Returns what two starts of one run must have in common.

    Files count by name and size, so that a folder can be moved; the model's shape and rates count
    as one value.
    """
    data = "\n".join(f"{Path(path).name} {Path(path).stat().st_size}" for path in input_files)
    values = options.to_dict()
    return {
        **{name: values[name] for name in _DECISIVE},
        "bert_config_file": fingerprint(config.to_json_string()),
        "input_file": f"{len(input_files)} file(s), {fingerprint(data)}",
    }


def read_settings(output_dir: Path) -> dict[str, Any] | None:
    """Returns the settings of the run in a folder, None if it left none.

    Raises:
      UserError: the file is not JSON.
    """
    path = output_dir / FLAGS_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path}: is not a JSON object; remove it, or choose another --output_dir")
    return value


def write_settings(output_dir: Path, settings: dict[str, Any]) -> None:
    """Keeps the settings of a run in its folder for `require_same_settings`."""
    atomic_files.write_json(output_dir / FLAGS_FILE, settings)


def require_same_settings(output_dir: Path, settings: dict[str, Any]) -> None:
    """Checks that a run goes on with what it began with.

    Raises:
      UserError: something differs that changes the weights; names each flag with both values.
    """
    before = read_settings(output_dir)
    differences = [
        f"--{name} was {before[name]}, now {value}"
        for name, value in settings.items()
        if before is not None and name in before and before[name] != value
    ]
    if differences:
        raise UserError(
            f"{output_dir} holds a run with other flags: {'; '.join(differences)}; give the former "
            "ones, choose another --output_dir, or add --allow_flag_changes to go on with the new"
        )


def require_same_gelu(output_dir: Path, gelu: str) -> None:
    """Checks that a run's weights are evaluated with the activation they were trained with.

    Raises:
      UserError: they were trained with the other form of GELU.
    """
    before = (read_settings(output_dir) or {}).get("gelu", gelu)
    if before != gelu:
        raise UserError(
            f"{output_dir} holds a run with --gelu={before}, and this one has --gelu={gelu}; give "
            f"--gelu={before}, or add --allow_flag_changes"
        )


def fingerprint(text: str) -> str:
    """Returns a short digest that tells a text from others in a message."""
    return "sha256 " + hashlib.sha256(text.encode()).hexdigest()[:12]
