"""What this machine computes on."""

from __future__ import annotations

import os

from bert_clinical.quiet_tensorflow import tf


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
