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
import platform
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
from data_prep.common.program import UserError

_log = logging.getLogger(__name__)

_WORKER = "data_prep.beam.worker"
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
    process: subprocess.Popen[str]


class _RefusedError(Exception):
    """No worker can be had; the message says why."""


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Gives a process to each worker that is asked for, and knows when it ends.

    One process is always ready: an engine may ask for new workers at each stage of a job, and
    imports take seconds. Task managers count their workers each from one, so an id may be in use
    several times.

    Args:
      modules: what workers import before they are asked for.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._command = [sys.executable, "-m", _WORKER, *modules]
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._ready: subprocess.Popen[str] | None = self._open()

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
            named = [worker for worker in self._workers if worker.id == request.worker_id]
        mine = [worker for worker in named if worker.peer == context.peer()]
        # Over another connection than it was started by, an id says enough if it is the only one.
        _end(mine or (named if len(named) == 1 else []))
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> int:
        """Ends all workers and starts no more; returns how many there were."""
        with self._lock:
            ready, self._ready = self._ready, None
            workers = list(self._workers)
        if ready is not None:
            ready.kill()
            ready.wait()
        _end(workers)
        return len(workers)

    def _start(self, worker_id: str, peer: str, environment: Mapping[str, str]) -> None:
        with self._lock:
            process = self._ready
            if process is None:
                raise _RefusedError("the worker pool is ending; start it again")
            try:
                if process.poll() is not None:
                    process = self._open()
                assert process.stdin is not None
                process.stdin.write(json.dumps(environment) + "\n")
                process.stdin.flush()
                self._ready = self._open()
            except OSError as error:
                raise _RefusedError(
                    f"the worker pool on {platform.node()} cannot start a worker: {error.strerror}"
                ) from None
            worker = _Worker(worker_id, peer, process)
            self._workers.append(worker)
        _log.info("worker %s started, process %d", worker_id, process.pid)
        threading.Thread(target=self._mind, args=[worker], daemon=True).start()

    def _open(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            # What a worker prints may hold text of a note.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C in a terminal is for the pool, which ends its workers itself.
            start_new_session=True,
        )

    def _mind(self, worker: _Worker) -> None:
        status = worker.process.wait()
        with self._lock:
            self._workers.remove(worker)
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        if status == -signal.SIGKILL:
            _log.warning(
                "worker %s, process %d, was killed, as happens when memory runs out",
                worker.id, worker.process.pid,
            )  # fmt: skip
        elif status not in (0, -signal.SIGTERM):
            _log.warning(
                "worker %s, process %d, ended with exit status %d",
                worker.id, worker.process.pid, status,
            )  # fmt: skip
        else:
            _log.info("worker %s ended, process %d", worker.id, worker.process.pid)


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


def _end(workers: list[_Worker]) -> None:
    """Ends workers and waits until they have."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
