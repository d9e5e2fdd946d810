"""The process that `beam_launch` starts: hands a pipeline to its runner and says what came of it.

A runner's words are told as long as they cannot quote a note, which is until it has taken the job;
after that, those of our own steps, and the kinds of failure that are known.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from data_prep.beam import failures as beam_failures
from data_prep.beam import flink as beam_flink
from data_prep.beam import options as beam_options
from data_prep.common import files as beam_files
from data_prep.common.errors import UsageError, UserError, one_line

_SECONDS_TO_CANCEL = 20.0
_SECONDS_TO_END = 5.0
_MOST_CHARACTERS = 600


def launch(pipe: Connection) -> None:
    """Runs the pipelines that it is told of, and ends this process with all that it started."""
    launcher = _Launcher(pipe)
    try:
        runner, options = launcher.receive()
        launcher.prepare(runner, options)
        while True:
            module, arguments = launcher.receive()
            build = importlib.import_module(module).build
            launcher.tell("done", launcher.run(functools.partial(build, **arguments)))
    except UsageError as error:
        launcher.tell("usage", str(error))
    except BaseException as error:  # noqa: BLE001
        launcher.tell("failed", launcher.told(error))
    launcher.wait_for_parent()


class _Launcher:
    """The other end of the pipe, and what is to be cancelled when it closes."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._parent_is_gone = threading.Event()
        self._runner = ""
        self._options: list[str] = []
        self._engine: Any = None
        self._where_to_look = ""
        self._flink: str | None = None
        self._job = ""
        # Whether the runner only takes the job, or has done it when it returns.
        self._submits = False
        self._is_taken = False
        # There is a job, or there may be one in a moment.
        self._may_run = False
        self._result: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.excepthook = self._watch_threads
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Any:
        """Returns what the parent sends next."""
        return self._received.get()

    def tell(self, kind: str, value: Any) -> None:
        """Tells the parent, if it is there."""
        with self._lock:
            try:
                self._pipe.send((kind, value))
            except OSError:
                return

    def prepare(self, runner: str, options: list[str]) -> None:
        """Makes the runner, and refuses what could not become of its options."""
        import apache_beam as beam

        logging.getLogger(beam.__name__).setLevel(logging.CRITICAL)
        self._runner = runner
        self._options = options
        beam_files.set_options(options)
        parsed = beam_options.parse(options)
        self._engine = _engine(runner, parsed)
        self._submits = beam_options.submits(self._engine)
        beam_options.require_known(options, self._engine)
        if self._submits:
            _keep_job_server(self._engine)
        self._flink = beam_flink.address(beam_options.flink_master(parsed))
        endpoint = beam_options.job_endpoint(parsed)
        self._where_to_look = beam_failures.where_engine_logs(runner, endpoint)
        if endpoint is not None:
            _require_answer(endpoint, beam_options.seconds_for_job_server(options))
        self.tell("look", beam_options.where_workers_come_from(parsed, self._where_to_look))

    def run(self, build: Callable[[Any], None]) -> dict[str, int]:
        """Runs a pipeline to its end and returns its counters."""
        import apache_beam as beam
        import grpc

        options = beam_options.completed(beam_options.parse(self._options))
        pipeline = beam.Pipeline(runner=self._engine, options=options)
        build(pipeline)
        self._job = ""
        self._is_taken = False
        self._may_run = self._submits
        try:
            result = pipeline.run()
            self._is_taken = True
            self._job = _job_of(result)
            self._result.put(result)
            if self._job:
                self.tell("said", f"{self._runner} runs job {self._job}")
            state = result.wait_until_finish()
        except Exception as error:
            # A job server that is gone may have left its job behind.
            self._may_run = self._is_taken and isinstance(error, grpc.RpcError)
            raise
        self._may_run = False
        self._result.get()
        if state not in (None, beam.runners.runner.PipelineState.DONE):
            raise UserError(f"the job{self._named()} ended as {state}; look {self._where()}")
        return _counters(result)

    def told(self, error: BaseException) -> str:
        """Returns what can be said of a failure."""
        from data_prep.beam.steps import find_message

        texts = []
        seen: BaseException | None = error
        while seen is not None:
            texts.append(str(seen))
            seen = seen.__cause__ or seen.__context__
        message = next(filter(None, map(find_message, texts)), None)
        if message is not None:
            return message
        if isinstance(error, UserError):
            return str(error)
        if self._submits and not self._is_taken:
            return _refusal(self._runner, error)
        kind = next(filter(None, map(beam_failures.known_kind, texts)), None)
        if kind is not None:
            return f"{kind} (job{self._named()}; for more look {self._where()})"
        return beam_failures.withheld(
            f"{self._runner} failed at the job{self._named()} with {type(error).__name__}",
            self._where(),
        )

    def wait_for_parent(self) -> None:
        """Ends this process and all that it started, when the parent has heard of it."""
        self._parent_is_gone.wait(_SECONDS_TO_CANCEL + _SECONDS_TO_END)
        os.killpg(0, signal.SIGKILL)

    def _named(self) -> str:
        return f" {self._job}" if self._job else ""

    def _where(self) -> str:
        return self._where_to_look or beam_failures.where_engine_logs(self._runner, None)

    def _listen(self) -> None:
        """Hands on what the parent sends, until it is gone."""
        try:
            while True:
                self._received.put(self._pipe.recv())
        except (EOFError, OSError):
            pass
        # Jobs on other machines go on without us, also one that is just being handed over.
        if self._may_run:
            canceller = threading.Thread(target=self._cancel, daemon=True)
            canceller.start()
            canceller.join(_SECONDS_TO_CANCEL)
        self._parent_is_gone.set()
        os.killpg(0, signal.SIGKILL)

    def _cancel(self) -> None:
        result = self._result.get()
        if self._flink is not None:
            beam_flink.cancel(self._flink, self._job)
        if not result.is_in_terminal_state():
            result.cancel()
        while not result.is_in_terminal_state():
            time.sleep(0.1)

    def _watch_threads(self, failure: threading.ExceptHookArgs) -> None:
        # The thread that minds a worker fails when the worker dies; the runner would wait forever.
        if failure.thread is not None and failure.thread.name == "run_worker":
            self.tell(
                "failed",
                "a worker process died, as happens when memory runs out; run the same command "
                "again",
            )
            self.wait_for_parent()


def _engine(runner: str, options: Any) -> Any:
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.runners.runner import create_runner

    if runner.lower().removesuffix("runner") != "direct":
        try:
            return create_runner(runner)
        except (ValueError, ImportError):
            raise UsageError(
                f"--runner: Beam has no {runner} here; expected such as DirectRunner, "
                "FlinkRunner, SparkRunner, DataflowRunner or PortableRunner"
            ) from None
    # What Beam calls so would first fetch another program from the network. This is what it falls
    # back to.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(
        pipeline_options=encoded, retrieval_token="unused"
    )
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))


def _job_of(result: Any) -> str:
    """Returns the runner's name of a job, empty if it has none."""
    # A method of Dataflow's results; Beam's other ones keep it to themselves.
    job = getattr(result, "job_id", None) or getattr(result, "_job_id", None)
    found = job() if callable(job) else job
    return found if isinstance(found, str) else ""


def _keep_job_server(engine: Any) -> None:
    """Makes a runner that starts a job server of its own start one for all pipelines."""
    start = getattr(engine, "default_job_server", None)
    if start is None:
        return
    servers: list[Any] = []

    def kept(options: Any) -> Any:
        if not servers:
            servers.append(start(options))
        return servers[0]

    engine.default_job_server = kept


def _require_answer(endpoint: str, seconds: float) -> None:
    """Refuses an endpoint where nobody answers, for which Beam waits in silence."""
    import grpc

    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise UserError(
                f"--job_endpoint={endpoint}: no job server answered in {seconds:.0f} s; start it, "
                "see docs/beam.md, check host and port, or wait longer (--job_server_timeout)"
            ) from None


def _refusal(runner: str, error: BaseException) -> str:
    """Returns what a runner said before it took the job: it has seen no note."""
    import grpc

    message = str(error)
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        message = f"{error.code().name}: {error.details()}"
    message = one_line(message)
    if len(message) > _MOST_CHARACTERS:
        message = f"{message[:_MOST_CHARACTERS]} ..."
    return (
        f"{runner} did not take the job: {type(error).__name__}: {message}; check --runner and "
        "--pipeline_options, see docs/beam.md"
    )


def _counters(result: Any) -> dict[str, int]:
    counters: dict[str, int] = {}
    for counter in result.metrics().query()["counters"]:
        value = counter.committed if counter.committed is not None else counter.attempted
        name = counter.key.metric.name
        counters[name] = counters.get(name, 0) + int(value or 0)
    return counters
