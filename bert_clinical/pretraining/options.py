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
from data_prep.common.settings_flags import setting

FLAGS_FILE = "training_flags.json"
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
GELU_FORMS = ("tanh", "erf")


@dataclass(frozen=True)
class TrainingOptions:
    """The settings of a run, named as the flags of `run_pretraining`; their helps say what each is.

    Steps are updates of the weights, lengths WordPieces.
    """

    max_seq_length: int = setting(128, "WordPieces in a sequence, as the data was made.", minimum=1)
    max_predictions_per_seq: int = setting(
        20, "Predictions in a sequence, as the data was made.", minimum=1
    )
    train_batch_size: int = setting(
        32, "Examples of an update, over all devices and parts.", minimum=1
    )
    learning_rate: float = setting(5e-5, "The learning rate that warm-up leads to.")
    num_train_steps: int = setting(100000, "Updates in the whole run.", minimum=1)
    num_warmup_steps: int = setting(
        10000, "Updates during which the learning rate rises.", minimum=0
    )
    save_checkpoints_steps: int = setting(1000, "Updates between two checkpoints.", minimum=1)
    iterations_per_loop: int = setting(
        1000,
        "Most updates in one compiled call; fewer if they would take more than about 5 seconds.",
        minimum=1,
    )
    keep_checkpoint_max: int = setting(
        5, "How many checkpoints stay, the newest; 0 for all.", minimum=0
    )
    random_seed: int = setting(
        12345, "Of first weights, dropout and the order of the data.", minimum=0
    )
    gelu: str = setting(
        "tanh",
        "Form of GELU: tanh as in Google's program since 2019-02-07, erf as BioBERT was trained "
        "and as transformers computes `gelu`.",
        choices=GELU_FORMS,
    )
    precision: str = setting(
        "float32",
        "Type of products and activations; weights, LayerNorm, softmax and losses stay float32.",
        choices=PRECISIONS,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Parts into which a batch is divided to save memory; the update is the whole batch's.",
        minimum=1,
    )
    recompute_grad: bool = setting(
        False, "Compute activations again for gradients, to save memory."
    )
    jit_compile: bool = setting(False, "Compile by XLA.")
    skip_padding: bool = setting(
        True, "Compute the real tokens alone; padding has no part in any loss or gradient."
    )
    log_every: int = setting(100, "Updates between two lines of the log.", minimum=1)
    eval_every: int = setting(
        0, "Updates between evaluations on --eval_input_file; 0 for none.", minimum=0
    )
    eval_batch_size: int = setting(8, "Examples of an evaluation's batch.", minimum=1)
    max_eval_steps: int = setting(100, "Batches of an evaluation.", minimum=1)

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
    "skip_padding",
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
