"""What this machine computes on."""

from __future__ import annotations

import os

from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.worker_cluster import WorkerCluster
from data_prep.common.errors import UserError


def names() -> list[str]:
    """Returns the names of the GPUs, or of the CPU where there are none."""
    found = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
    return [device.name.removeprefix("/physical_device:") for device in found]


_PEAK_TERAFLOPS = {
    "H200": (494, 989),
    "H100 PCIe": (378, 756),
    "H100": (494, 989),
    "A100": (156, 312),
    "A40": (74.8, 149.7),
    "A30": (82, 165),
    "A10G": (35, 70),
    "A10": (62.5, 125),
    "L40S": (183, 362),
    "L4": (60, 121),
    "V100": (15.7, 125),
    "T4": (8.1, 65),
}
"""Of dense products, by a part of the device's name: float32 as TensorFlow computes it (TF32 where
there is one), and 16 bits. The first name that fits counts.

Source: NVIDIA's data sheets.
"""


def peak_flops(precision: str, strategy: tf.distribute.Strategy | None = None) -> float | None:
    """Returns the operations a second that all devices of a strategy could make at most.

    None without a GPU, or for one that is not in the table.

    Args:
      precision: of the products.
      strategy: of several GPUs, all like this machine's first. None for that one alone.
    """
    for gpu in tf.config.list_physical_devices("GPU")[:1]:
        name = tf.config.experimental.get_device_details(gpu).get("device_name", "")
        peak = peak_of(name, precision)
        return peak and peak * (strategy.num_replicas_in_sync if strategy else 1)
    return None


def peak_of(device_name: str, precision: str) -> float | None:
    """Returns the operations a second that a device of this name could make; None if unknown."""
    words = device_name.replace("-", " ").split()
    for name, (single, half) in _PEAK_TERAFLOPS.items():
        if all(part in words for part in name.split()):
            return 1e12 * (single if precision == "float32" else half)
    return None


def memory() -> tuple[float, str]:
    """Returns the bytes of the first GPU, else of the machine, and what to call it."""
    from tensorflow.python.client import device_lib

    for device in device_lib.list_local_devices():
        if device.device_type == "GPU":
            return float(device.memory_limit), "the GPU"
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), "this machine's memory"


def strategy(cluster: WorkerCluster | None) -> tf.distribute.Strategy | None:
    """Returns how several devices work together: those of all workers, or all GPUs here.

    Must be called before anything is computed. None for a single device.

    Args:
      cluster: the workers, who are awaited; None for a process alone.

    Raises:
      UserError: this worker's port is taken, or others did not come in time.
    """
    if cluster is not None:
        cluster.await_all()
        os.environ.update(cluster.environment)
        _limit_registration(cluster.timeout_seconds)
        return tf.distribute.MultiWorkerMirroredStrategy()
    # TensorFlow would take an empty one for broken JSON.
    os.environ.pop("TF_CONFIG", None)
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    return None


def _limit_registration(seconds: float) -> None:
    """Has TensorFlow wait no longer than this for a worker that is lost just when all have come.

    Its own limit of an hour cannot be changed by what it documents.
    """
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    workers = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    leader = "chief" if "chief" in workers.jobs else "worker"
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{leader}/replica:0/task:0",
        cluster_register_timeout_in_ms=int(seconds * 1000),
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=job, num_tasks=workers.num_tasks(job))
            for job in workers.jobs
        ],
    )


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
