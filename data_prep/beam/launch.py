"""Runs a pipeline in a process of its own, whose output goes nowhere.

Beam and its runners log what they please, exceptions of steps among it; and a runner that has lost
a worker may wait for it forever. Both end with that process: this one says what came of it in a
line, and nothing else is ever shown.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from data_prep.common import files as beam_files
from data_prep.common.errors import UsageError, UserError

_log = logging.getLogger(__name__)

Counters = dict[str, int]

_SECONDS_TO_END = 15.0


def run(module: str, *, runner: str, pipeline_options: Sequence[str], **arguments: Any) -> Counters:
    """Builds a pipeline, runs it and waits for its end.

    Args:
      module: its function `build` adds the steps to an `apache_beam.Pipeline`. Imported only in the
        other process.
      runner: a name that Beam knows.
      pipeline_options: the runner's.
      arguments: the other ones of `build`.

    Returns:
      The pipeline's counters, as far as the runner tells them.

    Raises:
      UserError: the pipeline failed.
    """
    here, there = socket.socketpair()
    with here, there:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(there.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            start_new_session=True,
        )
        pipe = Connection(here.detach())
    try:
        pipe.send(list(sys.path))
        pipe.send((module, arguments, runner, list(pipeline_options)))
        while True:
            kind, value = pipe.recv()
            if kind == "done":
                return value
            if kind == "said":
                _log.info("%s", value)
            else:
                raise (UsageError if kind == "usage" else UserError)(value)
    except (EOFError, ConnectionError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
        raise UserError(
            f"the process that started {runner} ended with exit status {process.returncode}; run "
            "the same command again"
        ) from None
    finally:
        # The launcher cancels what it can when this end of the pipe is closed, and then ends.
        pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


_LAUNCH = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from data_prep.beam.launch import launch
launch(pipe)
"""


def launch(pipe: Connection) -> None:
    """The other process: runs the pipeline that it is told and says what came of it."""
    launcher = _Launcher(pipe)
    try:
        module, arguments, runner, options = launcher.receive()
        build = importlib.import_module(module).build
        launcher.run(functools.partial(build, **arguments), runner, options)
    except BaseException as error:  # noqa: BLE001
        launcher.tell("failed", _told(error))
    launcher.wait_for_parent()


class _Launcher:
    """The other end of the pipe, and what is to be cancelled when it closes."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._result: Any = None
        self._parent_is_gone = threading.Event()
        threading.excepthook = self._watch_threads

    def receive(self) -> Any:
        """Returns what is to be done; from then on the parent only ever goes away."""
        task = self._pipe.recv()
        threading.Thread(target=self._watch_parent, daemon=True).start()
        return task

    def tell(self, kind: str, value: Any) -> None:
        with self._lock:
            try:
                self._pipe.send((kind, value))
            except OSError:
                return

    def run(self, build: Callable[[Any], None], runner: str, options: list[str]) -> None:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        try:
            parsed = PipelineOptions(options)
            all_options = parsed.get_all_options()
        except SystemExit:
            self.tell("usage", "--pipeline_options: Beam does not take them; see its manual")
            return
        try:
            engine = _engine(runner, all_options)
        except (ValueError, ImportError):
            self.tell(
                "usage",
                f"--runner: Beam has no {runner} here; expected such as DirectRunner, "
                "FlinkRunner, SparkRunner, DataflowRunner or PortableRunner",
            )
            return
        beam_files.set_options(options)
        pipeline = beam.Pipeline(runner=engine, options=parsed)
        build(pipeline)
        self._result = pipeline.run()
        job = getattr(self._result, "job_id", None)
        if callable(job):
            job = job()
        if isinstance(job, str):
            self.tell("said", f"{runner} runs job {job}")
        state = self._result.wait_until_finish()
        if state not in (None, beam.runners.runner.PipelineState.DONE):
            self.tell("failed", f"the pipeline ended as {state}; the runner's log says why")
            return
        self.tell("done", _counters(self._result))

    def wait_for_parent(self) -> None:
        self._parent_is_gone.wait(_SECONDS_TO_END)
        os.killpg(0, signal.SIGKILL)

    def _watch_parent(self) -> None:
        try:
            self._pipe.recv()
        except (EOFError, OSError):
            self._parent_is_gone.set()
        result = self._result
        if result is not None and not result.is_in_terminal_state():
            # Jobs on other machines go on without us.
            canceller = threading.Thread(target=result.cancel, daemon=True)
            canceller.start()
            canceller.join(_SECONDS_TO_END / 2)
        os.killpg(0, signal.SIGKILL)

    def _watch_threads(self, failure: threading.ExceptHookArgs) -> None:
        # The thread that minds a worker fails when the worker dies; the runner would wait forever.
        if failure.thread is not None and failure.thread.name == "run_worker":
            self.tell(
                "failed",
                "a worker process died, as happens when memory runs out; run the same command "
                "again",
            )
            self.wait_for_parent()


def _engine(runner: str, options: dict[str, Any]) -> Any:
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.runners.runner import create_runner

    if runner.lower().removesuffix("runner") != "direct":
        return create_runner(runner)
    # What Beam calls so would first fetch another program from the network. This is what it falls
    # back to.
    encoded = JobServiceHandle.encode_pipeline_options(options)
    provision = beam_provision_api_pb2.ProvisionInfo(
        pipeline_options=encoded, retrieval_token="unused"
    )
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))


def _told(error: BaseException) -> str:
    """Returns what can be said of a failure: our steps' messages, of all others only the kind."""
    from data_prep.beam.steps import find_message

    seen: BaseException | None = error
    while seen is not None:
        message = find_message(str(seen))
        if message is not None:
            return message
        seen = seen.__cause__ or seen.__context__
    return (
        f"the runner failed with {type(error).__name__}, whose message is withheld, as it could "
        "quote a note; check --runner, --pipeline_options and the runner's own log"
    )


def _counters(result: Any) -> Counters:
    counters: Counters = {}
    for counter in result.metrics().query()["counters"]:
        value = counter.committed if counter.committed is not None else counter.attempted
        name = counter.key.metric.name
        counters[name] = counters.get(name, 0) + int(value or 0)
    return counters
