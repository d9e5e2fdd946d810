"""What workers that train together tell each other between steps, so that all do the same next.

Every worker enters the same collective operations in the same order, or all wait for ever. So what
a worker finds out alone (its disk is full, its clock says, its folder holds) never decides what
comes next: it is told to the others at a moment that follows from flags and step, and the decision
is made from what all were told. Within a step `TrainingStep.run` does the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.worker_cluster import WorkerCluster
from data_prep.common.errors import UserError, internal_error_message, one_line, os_error_message

_GROUP_KEY = 0x0BE27
"""Far from the small numbers that TensorFlow's strategies count from."""


class WorkerAgreement:
    """The meetings of all workers; of a process alone, which meets nobody.

    Every worker must call the same methods in the same order.

    Args:
      cluster: the workers; None for a process alone.
    """

    def __init__(self, cluster: WorkerCluster | None = None) -> None:
        self.cluster = cluster
        self._gathered = 0

    @property
    def has_others(self) -> bool:
        """Whether other processes make every step together with this one."""
        return self.cluster is not None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes and decides: the first worker, or the only one."""
        return self.cluster is None or self.cluster.index == 0

    def share(self, value: Any) -> list[Any]:
        """Returns what every worker gives, in their order, once all have given theirs.

        Waits as long as it takes. A worker that is lost meanwhile ends it by an error of
        TensorFlow's.

        Args:
          value: as JSON has them.
        """
        if self.cluster is None:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
        lengths = self._gather(np.array([len(text)], np.int32))
        padded = np.zeros(lengths.max(), np.int32)
        padded[: len(text)] = text
        rows = self._gather(padded).reshape(len(lengths), -1).astype(np.uint8)
        return [
            json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)
        ]

    def of_chief(self, value: Any) -> Any:
        """Returns what the chief gives; others give anything."""
        return self.share(value)[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Lets nobody go on from the block unless all can.

        Raises:
          UserError: another worker failed in the block; says which, and what it said.
        """
        try:
            yield
        except Exception as error:
            # If this cannot be told, because another one is lost too, the error itself is shown.
            with suppress(tf.errors.OpError):
                self.share(_message(error))
                self.part()
            raise
        for worker, failure in enumerate(self.share(None)):
            if failure is not None:
                self.part()
                raise UserError(f"{self._name(worker)} ended the run: {failure}")

    def require_same(self, values: Mapping[str, Any]) -> None:
        """Checks that all workers give the same values.

        Raises:
          UserError: some differ; names each with the chief's value and the first other one.
        """
        everyones = self.share({name: str(value) for name, value in values.items()})
        differences = []
        for name in dict.fromkeys(name for given in everyones for name in given):
            for worker, given in enumerate(everyones):
                if given.get(name) != everyones[0].get(name):
                    differences.append(
                        f"{name} is {everyones[0].get(name)} at {self._name(0)} and "
                        f"{given.get(name)} at {self._name(worker)}"
                    )
                    break
        if differences and self.cluster is not None:
            self.part()
            raise UserError(
                f"the workers of {self.cluster.source} differ: {'; '.join(differences)}; start all "
                "of them with the same flags, files and versions"
            )

    def part(self) -> None:
        """Lets nobody end before all have heard what was told last.

        Workers fetch what the others give. One that ends at once takes with it what they have not
        fetched yet, and they would say that it was lost in place of what it told.
        """
        if self.cluster is not None:
            # One that is lost by now has been told, or told itself, all that there was.
            with suppress(tf.errors.OpError):
                self._gather(np.zeros(1, np.int32))

    def _name(self, worker: int) -> str:
        return self.cluster.name(worker) if self.cluster is not None else "this process"

    def _gather(self, values: np.ndarray) -> np.ndarray:
        """Returns the values of all workers one behind the other; int32 [n] from each."""
        assert self.cluster is not None
        self._gathered += 1
        with tf.device("CPU:0"):
            return tf.raw_ops.CollectiveGatherV2(
                input=tf.constant(values),
                group_size=len(self.cluster.addresses),
                group_key=_GROUP_KEY,
                instance_key=self._gathered,
                ordering_token=[],
                communication_hint="ring",
            ).numpy()


def _message(error: Exception) -> str:
    if isinstance(error, UserError):
        return one_line(str(error))
    if isinstance(error, OSError):
        return os_error_message(error)
    return internal_error_message(error)
