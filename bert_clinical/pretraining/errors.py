"""TensorFlow's foreseeable failures as one line each."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.worker_cluster import WorkerCluster
from data_prep.common.errors import UserError

_FULL_DISK = (
    "the disk of --output_dir is full; free some space and run the same command again: it goes on "
    "from the last checkpoint"
)

_LOST_WORKER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
)


@contextmanager
def translated_errors(
    options: TrainingOptions, cluster: WorkerCluster | None = None
) -> Iterator[None]:
    """Turns running out of memory or disk, and what a device refuses, into a `UserError`.

    TensorFlow's own messages are left out: they could hold values of a tensor.

    Args:
      options: the settings, some of which the message names.
      cluster: the workers, one of whom may be lost.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        if "No space left" in str(error):
            raise UserError(_FULL_DISK) from None
        raise UserError(
            f"out of memory at --train_batch_size={options.train_batch_size}, --max_seq_length="
            f"{options.max_seq_length} and --gradient_accumulation_steps="
            f"{options.gradient_accumulation_steps}; raise the last, add --recompute_grad, or "
            "choose --precision=mixed_bfloat16"
        ) from None
    except OSError as error:
        # A write to a file that is open names no file.
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            raise UserError(_FULL_DISK) from None
        raise
    except _LOST_WORKER:
        if cluster is None:
            raise
        raise UserError(
            f"another worker of {cluster.source} was lost; {cluster.who_answers()}; start all of "
            "them again with the same flags: they go on from the last checkpoint"
        ) from None
    except tf.errors.UnimplementedError:
        raise UserError(
            f"this device cannot compute with --precision={options.precision}"
            f"{' and --jit_compile' if options.jit_compile else ''}; choose --precision=float32"
        ) from None
