"""What a worker pool answers to an engine that asks for a worker or wants one to end.

Source: Beam's `worker_pool_main`.
Differs: workers run with the pool's interpreter and know the pipeline's options; what they print
goes nowhere; workers of several task managers are told apart; a pipeline of other versions, and a
task manager whose workers this host cannot reach it from, are refused in a line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any, NamedTuple

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
)
from google.protobuf import json_format, text_format

from data_prep.beam.steps import StepError
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

_SOURCE = "data_prep.beam.worker_source"
_SECONDS_TO_REACH = 20.0
_SECONDS_TO_END = 10.0
_REQUESTS_AT_ONCE = 16


def versions() -> dict[str, str]:
    """Returns the versions in which a pipeline and its workers must agree."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "apache-beam": metadata.version("apache-beam"),
        "bert-clinical": metadata.version("bert-clinical"),
    }


def params_for_pool() -> dict[str, str]:
    """Returns what a pipeline tells the pools that its workers come from."""
    return {_VERSIONS: json.dumps(versions())}


_VERSIONS = "bert_clinical_versions"


class _Worker(NamedTuple):
    """A worker that runs; `peer` asked for it."""

    id: str
    peer: str
    process: int
    has_ended: threading.Event


class _RefusedError(Exception):
    """No worker can be had; the message says why."""


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts a process for each worker that is asked for, and knows when it ends.

    Task managers count their workers each from one, so an id may be in use several times.

    Args:
      modules: what workers have imported when they start.

    Raises:
      UserError: they cannot be imported.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._command = [sys.executable, "-m", _SOURCE, *modules]
        # Held from a question to the source of workers to its answer.
        self._asking = threading.Lock()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # Held while what follows is looked at or changed.
        self._lock = threading.Lock()
        self._asked: tuple[str, str] | None = None
        self._workers: dict[int, _Worker] = {}
        self._is_closed = False
        self._source = self._open_source()
        if not self._ready.get():
            raise UserError(
                f"{sys.executable} cannot import what workers need; install the project there "
                "again, with the extra beam"
            )

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Starts a worker, or answers why there is none."""
        try:
            _require_versions(request.params)
            environment = _environment(request)
            self._start(request.worker_id, context.peer(), environment)
        except _RefusedError as refusal:
            _log.warning("worker %s refused: %s", request.worker_id, refusal)
            # The engine hands this on, and the program finds the marked message in it.
            return beam_fn_api_pb2.StartWorkerResponse(error=str(StepError(str(refusal))))
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Ends a worker of the task manager that asks; it may have ended by itself."""
        with self._lock:
            named = [worker for worker in self._workers.values() if worker.id == request.worker_id]
        mine = [worker for worker in named if worker.peer == context.peer()]
        # Over another connection than it was started by, an id says enough if it is the only one.
        _end(mine or (named if len(named) == 1 else []))
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> int:
        """Ends all workers and starts no more; returns how many there were."""
        with self._lock:
            self._is_closed = True
            workers = list(self._workers.values())
        _end(workers)
        self._source.kill()
        self._source.wait()
        return len(workers)

    def _start(self, worker_id: str, peer: str, environment: Mapping[str, str]) -> None:
        with self._asking:
            with self._lock:
                if self._is_closed:
                    raise _RefusedError("the worker pool is ending; start it again")
                self._asked = (worker_id, peer)
                source = self._source
            assert source.stdin is not None
            try:
                source.stdin.write(json.dumps(environment) + "\n")
                source.stdin.flush()
                has_answer = True
            except BrokenPipeError:
                with self._lock:
                    # Whoever listened to the source has answered if it heard of the question.
                    has_answer, self._asked = self._asked is None, None
            if not has_answer or not self._answers.get():
                raise _RefusedError(
                    f"the worker pool on {platform.node()} could not start a worker, as happens "
                    "when memory runs out; run the same command again"
                )

    def _open_source(self) -> subprocess.Popen[str]:
        source = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What a worker prints may hold text of a note.
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C in a terminal is for the pool, which ends its workers itself.
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=[source], daemon=True).start()
        return source

    def _listen(self, source: subprocess.Popen[str]) -> None:
        """Hears what becomes of workers, until their source has ended."""
        assert source.stdout is not None
        is_ready = False
        for line in source.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                is_ready = True
                self._ready.put(True)
            elif "started" in answer:
                self._has_started(answer["started"])
            else:
                self._has_ended(answer["ended"], answer["status"])
        status = source.wait()
        with self._lock:
            lost, self._workers = list(self._workers.values()), {}
            was_asked, self._asked = self._asked is not None, None
            if is_ready and not self._is_closed:
                _log.warning(
                    "the process that workers are copies of ended with exit status %d, and %d "
                    "worker(s) with it; starting it again",
                    status, len(lost),
                )  # fmt: skip
                self._source = self._open_source()
        for worker in lost:
            worker.has_ended.set()
        if not is_ready:
            self._ready.put(False)
        if was_asked:
            self._answers.put(False)

    def _has_started(self, pid: int) -> None:
        with self._lock:
            assert self._asked is not None
            worker = _Worker(*self._asked, pid, threading.Event())
            self._workers[pid] = worker
            self._asked = None
        _log.info("worker %s started, process %d", worker.id, pid)
        self._answers.put(True)

    def _has_ended(self, pid: int, status: int) -> None:
        with self._lock:
            worker = self._workers.pop(pid)
        worker.has_ended.set()
        if status == -signal.SIGKILL:
            _log.warning(
                "worker %s, process %d, was killed, as happens when memory runs out",
                worker.id, pid,
            )  # fmt: skip
        elif status not in (0, -signal.SIGTERM):
            _log.warning("worker %s, process %d, ended with exit status %d", worker.id, pid, status)
        else:
            _log.info("worker %s ended, process %d", worker.id, pid)


@contextlib.contextmanager
def serving(pool: WorkerPool, address: str, port: int) -> Iterator[int]:
    """Answers engines at `address`, and yields the port; 0 takes one that is free.

    Raises:
      UserError: the port is taken, or the address is not one of this host.
    """
    server = grpc.server(
        ThreadPoolExecutor(_REQUESTS_AT_ONCE),
        options=[
            # Otherwise a second pool would take half of the first one's requests.
            ("grpc.so_reuseport", 0),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        bound = server.add_insecure_port(f"{address}:{port}")
    except RuntimeError:
        raise UserError(
            f"cannot listen at {address}:{port}: another pool or program has the port, or the "
            "address is not one of this host; give another --port or --address"
        ) from None
    server.start()
    try:
        yield bound
    finally:
        server.stop(grace=None).wait()


def _require_versions(params: Mapping[str, str]) -> None:
    """Refuses a pipeline of other versions; one that is not this project's says none."""
    if _VERSIONS not in params:
        return
    here = versions()
    differing = [
        f"{name} {here.get(name, 'none')} in place of {wanted}"
        for name, wanted in json.loads(params[_VERSIONS]).items()
        if here.get(name) != wanted
    ]
    if differing:
        raise _RefusedError(
            f"the worker pool on {platform.node()} has {', '.join(differing)}; give the program "
            "and all pools the same installation"
        )


def _environment(request: Any) -> dict[str, str]:
    """Returns what a worker of Beam is told by its environment."""
    endpoint = request.provision_endpoint.url
    channel = grpc.insecure_channel(endpoint)
    with channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        try:
            provision = stub.GetProvisionInfo(
                beam_provision_api_pb2.GetProvisionInfoRequest(),
                timeout=_SECONDS_TO_REACH,
                metadata=[("worker_id", request.worker_id)],
            ).info
        except grpc.RpcError as error:
            raise _RefusedError(
                f"the worker pool on {platform.node()} cannot reach the engine at {endpoint}, "
                f"where it says that workers find it ({error.code().name}); a pool must run on "
                "the host of the task manager or executor that asks it for workers"
            ) from None
    return {
        "WORKER_ID": request.worker_id,
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(request.control_endpoint),
        "PIPELINE_OPTIONS": json_format.MessageToJson(provision.pipeline_options, indent=None),
        "RUNNER_CAPABILITIES": " ".join(provision.runner_capabilities),
    }


def _end(workers: Sequence[_Worker]) -> None:
    """Ends workers and waits until they have."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for worker in workers:
            if not worker.has_ended.is_set():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process, number)
        if all(worker.has_ended.wait(_SECONDS_TO_END) for worker in workers):
            return
