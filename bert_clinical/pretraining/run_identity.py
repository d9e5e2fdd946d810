"""What the workers of one run must have in common before they load anything."""

from __future__ import annotations

from typing import Any

from bert_clinical import __version__
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.options import fingerprint
from data_prep.common.program import ProgramFlags

_OWN_FLAGS = (
    "output_dir",
    "bert_config_file",
    "input_file",
    "eval_input_file",
    "init_checkpoint",
    "worker_timeout_seconds",
)
"""Paths are each machine's own. What they hold is compared, not what they are called."""


def at_start(values: ProgramFlags, config: BertConfig) -> dict[str, Any]:
    """Returns flags, model, versions and devices of this worker, under the names to show.

    Data and checkpoints are compared once they are found.
    """
    flags = {f"--{name}": value for name, value in values.as_dict().items()}
    return {
        **{name: value for name, value in flags.items() if name[2:] not in _OWN_FLAGS},
        "--bert_config_file": fingerprint(config.to_json_string()),
        "the version of bert-clinical": __version__,
        "the version of TensorFlow": tf.__version__,
        "the number of GPUs": len(tf.config.list_physical_devices("GPU")),
    }
