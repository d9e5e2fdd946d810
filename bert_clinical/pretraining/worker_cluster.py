"""The workers of `TF_CONFIG`, or of a job of SLURM: who they are, which of them answer, and an end
to waiting for them.

Knows no TensorFlow: workers are awaited before it is told of them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from bert_clinical.pretraining import slurm_step
from data_prep.common.errors import EXIT_DATA_ERROR, UserError

_log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 600.0

_VARIABLE = "TF_CONFIG"
_JOBS = ("chief", "worker")

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_LOOKS = 0.2
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
      source: what named them, for messages.
      environment: what TensorFlow reads of it.
    """

    addresses: tuple[str, ...]
    index: int
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    source: str = _VARIABLE
    environment: Mapping[str, str] = field(default_factory=dict)

    def name(self, worker: int) -> str:
        """Returns what messages call a worker."""
        return f"worker {worker} ({self.addresses[worker]})"

    def introduction(self) -> str:
        """Returns who this worker is, who is the chief, and for whom it waits."""
        others = [
            self.name(worker) for worker in range(len(self.addresses)) if worker != self.index
        ]
        if len(others) > 3:
            others[2:] = [f"{len(others) - 2} more"]
        chief = f"the chief is {self.name(0)}"
        if self.index == 0:
            chief = "the chief, which writes checkpoints and logs"
        name = self.name(self.index)
        return f"{name} of {self.source}; {chief}; waits for {', '.join(others)}"

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

    def await_all(self) -> None:
        """Returns once every worker has come, and tells every 30 s who is missing.

        TensorFlow's own waiting lets no thread of Python's run: nothing could be told, no signal
        heard. So each worker first listens at its port itself, until it has reached all others.

        Raises:
          UserError: this worker's port is taken, or not all came within `timeout_seconds`.
        """
        missing = set(range(len(self.addresses))) - {self.index}
        _log.info("%s", self.introduction())
        begin = told = time.monotonic()
        with self._listener() as listener:
            while True:
                _accept_all(listener)
                missing = {worker for worker in missing if not _is_open(self.addresses[worker])}
                if not missing:
                    _log.info("All %d workers are there", len(self.addresses))
                    return
                names = ", ".join(self.name(worker) for worker in sorted(missing))
                now = time.monotonic()
                if now - begin > self.timeout_seconds:
                    raise UserError(
                        f"not all workers of {self.source} came within {self.timeout_seconds:g} s "
                        f"(--worker_timeout_seconds); missing: {names}; start all of them with "
                        "the same cluster and an index each, and see that every machine reaches "
                        "the others' ports"
                    )
                if now - told > _SECONDS_BETWEEN_LINES:
                    told = now
                    _log.info(
                        "Waiting for %s; %.0f of %g s are over (--worker_timeout_seconds)",
                        names, now - begin, self.timeout_seconds,
                    )  # fmt: skip
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _listener(self) -> socket.socket:
        port = _host_and_port(self.addresses[self.index])[1]
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        try:
            listener = socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except OSError as error:
            raise UserError(
                f"{self.name(self.index)} of {self.source} cannot listen at its port: "
                f"{error.strerror}; see whether an earlier run still holds it, or name another in "
                "TF_CONFIG"
            ) from None
        listener.setblocking(False)
        return listener

    @contextmanager
    def ended_if_stalled(self, step: int, usual_seconds: float) -> Iterator[None]:
        """Ends the process with status 1 if the block takes many times as long as usual.

        Whatever waits in it, in TensorFlow or for a file, cannot be ended in another way. Nothing
        is lost but the steps since the last checkpoint.

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
        sys.stdout.flush()
        print(  # noqa: T201
            f"run_pretraining: error: no step was made for {seconds:.0f} s after step {step}; "
            f"{self.who_answers()}; look at each worker's machine and log, then start all of them "
            "again with the same flags: they go on from the last checkpoint",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(EXIT_DATA_ERROR)


def from_environment(
    environment: Mapping[str, str], timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> WorkerCluster | None:
    """Returns the workers that `TF_CONFIG` names, else the tasks of a SLURM step; None for one.

    Raises:
      UserError: it is no JSON object, names jobs other than chief and worker, or its task is none
        of them; or SLURM's tasks are not in blocks.
    """
    found = {_VARIABLE: environment[_VARIABLE]} if environment.get(_VARIABLE) else {}
    source = _VARIABLE
    if not found:
        found = slurm_step.environment_of_worker(environment)
        source = f"SLURM's job {environment.get('SLURM_JOB_ID')}"
    if not found:
        return None
    text = found[_VARIABLE]
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
    for address in everyone:
        if not re.fullmatch(r".+:[0-9]{1,5}", address):
            raise UserError(f"{_VARIABLE}: a worker's address is {address!r}; expected HOST:PORT")
    before = len(addresses.get("chief", [])) if job == "worker" else 0
    return WorkerCluster(tuple(everyone), before + index, timeout_seconds, source, found)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _is_open(address: str) -> bool:
    """Tells whether somebody listens at an address."""
    try:
        with socket.create_connection(_host_and_port(address), timeout=_SECONDS_TO_ANSWER):
            return True
    except OSError:
        return False


def _accept_all(listener: socket.socket) -> None:
    """Ends the connections of others that look for this worker."""
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


def _answers(address: str) -> bool:
    """Tells whether a server of TensorFlow's answers; a stopped process still takes connections."""
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
