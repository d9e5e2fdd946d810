"""The workers of `TF_CONFIG`: who they are, which of them answer, and an end to waiting for them.

Knows no TensorFlow: workers are awaited while it starts.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from data_prep.common.program import EXIT_DATA_ERROR, UserError

_log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 600.0

MAX_TIMEOUT_SECONDS = 3600.0
"""TensorFlow itself gives up after an hour."""

_VARIABLE = "TF_CONFIG"
_JOBS = ("chief", "worker")

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_TO_ANSWER = 5.0

_LEAST_SECONDS_WITHOUT_A_STEP = 120.0
_USUAL_TIMES_WITHOUT_A_STEP = 20.0


@dataclass(frozen=True)
class WorkerCluster:
    """All workers that train together, as one of them sees them.

    Attributes:
      addresses: host:port of each, the chief's first.
      index: which of them this process is.
      timeout_seconds: how long it waits for others before it gives up.
    """

    addresses: tuple[str, ...]
    index: int
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS

    def name(self, worker: int) -> str:
        """Returns what messages call a worker."""
        return f"worker {worker} ({self.addresses[worker]})"

    def silent(self) -> list[str]:
        """Returns the names of the other workers that do not answer now."""
        others = [worker for worker in range(len(self.addresses)) if worker != self.index]
        with ThreadPoolExecutor(len(others)) as pool:
            answers = pool.map(_answers, [self.addresses[worker] for worker in others])
            return [
                self.name(worker)
                for worker, found in zip(others, answers, strict=True)
                if not found
            ]

    def who_answers(self) -> str:
        """Returns which of the other workers answer now, as part of a message."""
        silent = self.silent()
        if not silent:
            return "all other workers answer"
        return f"{', '.join(silent)} of {len(self.addresses)} workers: no answer"

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Tells every 30 s who is missing while the block waits for all, and ends the wait.

        The process ends with status 1 after `timeout_seconds`: nothing else ends TensorFlow's own
        waiting.
        """
        arrived = threading.Event()
        thread = threading.Thread(target=self._tell_who_is_missing, args=[arrived], daemon=True)
        thread.start()
        try:
            yield
        finally:
            arrived.set()
            thread.join()

    def _tell_who_is_missing(self, arrived: threading.Event) -> None:
        begin = time.monotonic()
        while True:
            waited = time.monotonic() - begin
            left = self.timeout_seconds - waited
            if arrived.wait(max(0.0, min(_SECONDS_BETWEEN_LINES, left))):
                return
            waited = time.monotonic() - begin
            if waited < self.timeout_seconds:
                _log.info(
                    "Waiting for the workers of TF_CONFIG for %.0f s, until %.0f s "
                    "(--worker_timeout_seconds); %s", waited, self.timeout_seconds,
                    self.who_answers(),
                )  # fmt: skip
            else:
                _end_process(
                    f"not all workers of TF_CONFIG came within {self.timeout_seconds:.0f} s "
                    f"(--worker_timeout_seconds); {self.who_answers()}; start all of them with the "
                    "same TF_CONFIG but for task.index, and see that each can reach the others' "
                    "ports"
                )

    @contextmanager
    def ended_if_stalled(self, step: int, usual_seconds: float) -> Iterator[None]:
        """Ends the process with status 1 if the block takes many times as long as usual.

        What waits for a worker that never comes cannot be ended in another way. Nothing is lost
        but the steps since the last checkpoint.

        Args:
          step: where the run is, for the message.
          usual_seconds: how long the block usually takes.
        """
        limit = max(_LEAST_SECONDS_WITHOUT_A_STEP, _USUAL_TIMES_WITHOUT_A_STEP * usual_seconds)
        timer = threading.Timer(limit, self._end_stalled, [step, limit])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end_stalled(self, step: int, seconds: float) -> None:
        _end_process(
            f"no step was made for {seconds:.0f} s after step {step}; {self.who_answers()}; look "
            "at each worker's machine and log, then start all of them again with the same flags: "
            "they go on from the last checkpoint"
        )


def from_environment(
    environment: Mapping[str, str], timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> WorkerCluster | None:
    """Returns the workers that `TF_CONFIG` names; None if there is one at most.

    Raises:
      UserError: it is no JSON object, names jobs other than chief and worker, or its task is none
        of them.
    """
    text = environment.get(_VARIABLE)
    if not text:
        return None
    try:
        config = json.loads(text)
        jobs = dict(config.get("cluster", {}))
        task = dict(config.get("task", {}))
        addresses = {job: [str(address) for address in jobs[job]] for job in jobs}
    except (ValueError, TypeError, AttributeError):
        raise UserError(
            f"the environment variable {_VARIABLE} is not a JSON object with cluster and task; "
            'expected {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", '
            '"index": 0}}'
        ) from None
    strange = sorted(set(jobs) - set(_JOBS))
    if strange:
        raise UserError(
            f"{_VARIABLE}: its cluster has the job {strange[0]!r}; expected worker, and chief at "
            "most beside it"
        )
    everyone = [address for job in _JOBS for address in addresses.get(job, [])]
    if len(everyone) < 2:
        return None
    job, index = task.get("type"), task.get("index")
    if job not in addresses or not isinstance(index, int) or not 0 <= index < len(addresses[job]):
        raise UserError(
            f"{_VARIABLE}: its task is {json.dumps(task)}, which is none of the "
            f"{len(everyone)} workers of its cluster; expected their type and an index from 0"
        )
    before = len(addresses.get("chief", [])) if job == "worker" else 0
    return WorkerCluster(tuple(everyone), before + index, timeout_seconds)


def _answers(address: str) -> bool:
    """Tells whether a server of TensorFlow answers; a stopped process still takes connections."""
    import grpc

    # TensorFlow's servers are reached without a proxy too.
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    try:
        grpc.channel_ready_future(channel).result(timeout=_SECONDS_TO_ANSWER)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True


def _end_process(message: str) -> NoReturn:
    """Ends the process from a thread, whatever its others wait for."""
    sys.stdout.flush()
    print(f"run_pretraining: error: {message}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_DATA_ERROR)
