"""The pool of Beam's workers that a node runs: what it starts, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.format_notes_program import PLANTED
from tests.running import (
    HANG_SECONDS,
    ROOT,
    assert_one_line_error,
    run_here,
    run_program,
    wait_until,
)

beam = pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
grpc = pytest.importorskip("grpc")

from apache_beam.portability.api import (  # noqa: E402
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)

from data_prep.beam import steps as beam_steps  # noqa: E402
from data_prep.beam import worker_pool as beam_worker_pool  # noqa: E402

MODULE = "data_prep.worker_pool"


class Provision(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    """What a task manager tells its workers about their pipeline."""

    def __init__(self, **options: list[str]) -> None:
        self.options = {f"beam:option:{name}:v1": value for name, value in options.items()}

    def GetProvisionInfo(self, request, context):  # noqa: N802
        assert dict(context.invocation_metadata())["worker_id"]
        info = beam_provision_api_pb2.ProvisionInfo()
        info.pipeline_options.update(self.options)
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)


class Control(beam_fn_api_pb2_grpc.BeamFnControlServicer):
    """A task manager that has nothing to do; workers hold the line."""

    def Control(self, responses, context):  # noqa: N802
        yield from ()
        for _ in responses:
            pass


@contextlib.contextmanager
def task_manager(**options: list[str]) -> Iterator[str]:
    """Runs one; yields its address."""
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(8))
    provision = Provision(**options)
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(provision, server)
    beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(Control(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def engine() -> Iterator[str]:
    """The address of a task manager."""
    with task_manager() as address:
        yield address


class Pool:
    """A pool in a process of its own, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def said(self, *fragments: str) -> str:
        """Returns the next line that holds all of these."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if all(fragment in line for fragment in fragments):
                return line
        raise AssertionError(f"{fragments} is not said")

    @contextlib.contextmanager
    def asked(self) -> Iterator[beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub]:
        """An engine's connection; each is another task manager's."""
        # Channels of one process to one address would share a connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            yield beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)


@contextlib.contextmanager
def pool(**environment: str) -> Iterator[Pool]:
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "--port=0"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    try:
        made = Pool(process, 0)
        made.port = int(made.said("workers for ").split("127.0.0.1:")[1].split()[0])
        yield made
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def shared() -> Iterator[Pool]:
    """For tests that leave it as it was: without workers."""
    with pool(PATH="/nowhere") as made:
        yield made


def start(worker: str, endpoint: str, **params: str) -> beam_fn_api_pb2.StartWorkerRequest:
    address = endpoints_pb2.ApiServiceDescriptor(url=endpoint)
    return beam_fn_api_pb2.StartWorkerRequest(
        worker_id=worker, control_endpoint=address, provision_endpoint=address, params=params
    )


def stop(worker: str) -> beam_fn_api_pb2.StopWorkerRequest:
    return beam_fn_api_pb2.StopWorkerRequest(worker_id=worker)


def process_of(line: str) -> int:
    return int(line.rsplit("process ", 1)[1].split(",")[0])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_run_with_the_pools_own_python_whatever_path_says(
    engine: str, shared: Pool
) -> None:
    with shared.asked() as asked:
        assert asked.StartWorker(start("1-1", engine)).error == ""
        worker = process_of(shared.said("worker 1-1 started"))
        assert Path(f"/proc/{worker}/exe").resolve() == Path(sys.executable).resolve()
        environment = Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
        assert b"data_prep.beam.worker_source" in environment
        asked.StopWorker(stop("1-1"))


def test_equal_ids_of_two_task_managers_are_two_workers(engine: str, shared: Pool) -> None:
    with shared.asked() as first, shared.asked() as second:
        workers = []
        for asked in (first, second):
            assert asked.StartWorker(start("1-1", engine)).error == ""
            workers.append(process_of(shared.said("worker 1-1 started")))
        assert workers[0] != workers[1]
        first.StopWorker(stop("1-1"))
        assert not is_alive(workers[0])
        assert is_alive(workers[1])
        first.StopWorker(stop("no such worker"))
        second.StopWorker(stop("1-1"))
        assert not is_alive(workers[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_workers_end_with_the_pool(engine: str, number: signal.Signals) -> None:
    with pool() as made, made.asked() as asked:
        workers = []
        for name in ("1-1", "1-2"):
            assert asked.StartWorker(start(name, engine)).error == ""
            workers.append(process_of(made.said(f"worker {name} started")))
        gone = [os.pidfd_open(worker) for worker in workers]
        made.process.send_signal(number)
        status = made.process.wait(HANG_SECONDS)
        if number == signal.SIGKILL:
            assert status == -number
        else:
            assert status == 128 + number
            made.said(f"ended by {number.name}, with 2 worker(s)")
        for descriptor in gone:
            # Readable when the process has ended.
            assert select.select([descriptor], [], [], HANG_SECONDS)[0]
            os.close(descriptor)


# A plugin is imported by every worker.
TALKS = """
import os, pathlib, sys

print("{planted}", flush=True)
print("{planted}", file=sys.stderr, flush=True)
for descriptor in (1, 2):
    os.write(descriptor, b"{planted}")
pathlib.Path({marker!r}).touch()
"""


def test_what_workers_print_is_not_logged(tmp_path: Path) -> None:
    marker = tmp_path / "has printed"
    (tmp_path / "talks.py").write_text(TALKS.format(planted=PLANTED, marker=str(marker)))
    with (
        task_manager(beam_plugins=["talks"]) as engine,
        pool(PYTHONPATH=f"{tmp_path}:{ROOT}") as made,
        made.asked() as asked,
    ):
        assert asked.StartWorker(start("1-1", engine)).error == ""
        made.said("worker 1-1 started")
        wait_until(marker.exists, made.process)
        made.process.terminate()
        said, _ = made.process.communicate(timeout=HANG_SECONDS)
    assert "ended by SIGTERM" in said
    assert PLANTED not in said


def test_a_worker_that_is_killed_is_said(engine: str, shared: Pool) -> None:
    with shared.asked() as asked:
        assert asked.StartWorker(start("1-1", engine)).error == ""
        worker = process_of(shared.said("worker 1-1 started"))
        os.kill(worker, signal.SIGKILL)
        shared.said(f"worker 1-1, process {worker}, was killed", "memory")


def test_workers_that_lost_what_they_are_copies_of_are_made_up_for(engine: str) -> None:
    with pool() as made, made.asked() as asked:
        assert asked.StartWorker(start("1-1", engine)).error == ""
        worker = process_of(made.said("worker 1-1 started"))
        gone = os.pidfd_open(worker)
        parent = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        made.said("1 worker(s) with it; starting it again")
        assert select.select([gone], [], [], HANG_SECONDS)[0]
        os.close(gone)
        assert asked.StartWorker(start("1-1", engine)).error == ""
        made.said("worker 1-1 started")


def test_a_pipeline_of_other_versions_is_refused(engine: str, shared: Pool) -> None:
    same = beam_worker_pool.params_for_pool()
    (name,) = same
    other = {**json.loads(same[name]), "apache-beam": "1.0"}
    with shared.asked() as asked:
        refused = asked.StartWorker(start("1-1", engine, **{name: json.dumps(other)})).error
        message = beam_steps.find_message(refused)
        assert message is not None
        assert "apache-beam" in message
        assert "in place of 1.0" in message
        assert "the same installation" in message
        shared.said("worker 1-1 refused", "in place of 1.0")
        assert asked.StartWorker(start("1-1", engine, **same)).error == ""
        asked.StopWorker(stop("1-1"))


def test_a_task_manager_that_is_not_on_this_host_is_refused(shared: Pool) -> None:
    with shared.asked() as asked:
        refused = asked.StartWorker(start("1-1", "localhost:1")).error
        message = beam_steps.find_message(refused)
        assert message is not None
        assert "cannot reach the engine at localhost:1" in message
        assert "must run on the host of the task manager" in message


def test_a_port_has_one_pool(shared: Pool) -> None:
    result = run_program(MODULE, port=shared.port)
    assert_one_line_error(result, 1, f"127.0.0.1:{shared.port}", "another --port")


def test_only_this_host_is_listened_to(shared: Pool) -> None:
    tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    mine = [line.split()[1] for line in tables.splitlines() if f":{shared.port:04X} " in line]
    listening = [address.partition(":")[0] for address in mine]
    assert listening
    # 127.0.0.1, by itself or as an IPv6 address.
    assert all(address.endswith("0100007F") for address in listening)


def test_mistakes(capfd, monkeypatch) -> None:
    result = run_here(capfd, MODULE, address="everywhere")
    assert_one_line_error(result, 2, "--address", "'everywhere'")
    result = run_here(capfd, MODULE, spacy_model="no_such_model")
    assert_one_line_error(result, 1, "no spaCy model no_such_model", sys.executable)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "apache_beam" else real(name)
    )
    result = run_here(capfd, MODULE)
    assert_one_line_error(result, 1, "pip install 'apache-beam>=2.77,<2.78'")
