"""What this machine computes on."""

from __future__ import annotations

import json
import os

from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.options import TrainingOptions
from data_prep.common.errors import UserError


def names() -> list[str]:
    """Returns the names of the GPUs, or of the CPU where there are none."""
    found = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
    return [device.name.removeprefix("/physical_device:") for device in found]


def memory() -> tuple[float, str]:
    """Returns the bytes of the first GPU, else of the machine, and what to call it."""
    from tensorflow.python.client import device_lib

    for device in device_lib.list_local_devices():
        if device.device_type == "GPU":
            return float(device.memory_limit), "the GPU"
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), "this machine's memory"


def strategy() -> tf.distribute.Strategy | None:
    """Returns how several devices work together: all workers of `TF_CONFIG`, or all GPUs here.

    Must be called before anything is computed. None for a single device.

    Raises:
      UserError: `TF_CONFIG` is no JSON object.
    """
    text = os.environ.get("TF_CONFIG")
    if text == "":
        # TensorFlow would take it for broken JSON.
        del os.environ["TF_CONFIG"]
    if text:
        try:
            workers = json.loads(text).get("cluster", {}).get("worker", [])
        except (ValueError, AttributeError):
            raise UserError(
                "the environment variable TF_CONFIG is not a JSON object; expected cluster and task"
            ) from None
        if len(workers) > 1:
            return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    return None


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Tells whether this process writes: the first worker, or the only one."""
    resolver = getattr(strategy, "cluster_resolver", None)
    return resolver is None or not resolver.task_id


def has_other_workers(strategy: tf.distribute.Strategy | None) -> bool:
    """Tells whether other processes make every step together with this one."""
    return getattr(strategy, "cluster_resolver", None) is not None


def require_equal_shares(strategy: tf.distribute.Strategy | None, options: TrainingOptions) -> None:
    """Checks that every device gets as many examples as the others.

    Raises:
      UserError: the batch cannot be divided so.
    """
    count = strategy.num_replicas_in_sync if strategy is not None else 1
    parts = options.gradient_accumulation_steps
    if options.train_batch_size % (count * parts):
        raise UserError(
            f"--train_batch_size={options.train_batch_size} cannot be divided equally among "
            f"{count} device(s) with --gradient_accumulation_steps={parts}; choose a multiple "
            f"of {count * parts}"
        )
