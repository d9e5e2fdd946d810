"""Runs a pipeline in a process of its own, whose output goes nowhere.

Beam and its runners log what they please, exceptions of steps among it; and a runner that has lost
a worker may wait for it forever. Both end with that process: this one says what came of it in a
line, and nothing else is ever shown.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from data_prep.beam.progress import Phase, Watch
from data_prep.common.errors import UsageError, UserError

_log = logging.getLogger(__name__)

Counters = dict[str, int]

_SECONDS_TO_END = 30.0
_SECONDS_BETWEEN_LOOKS = 0.5


class Launcher:
    """The process that hands pipelines to a runner, one after the other; a context manager.

    Args:
      runner: a name that Beam knows.
      pipeline_options: the runner's.
    """

    def __init__(self, runner: str, pipeline_options: Sequence[str]) -> None:
        self._runner = runner
        self._options = list(pipeline_options)
        self._where_to_look = "whether the runner's machines are there"

    def run(
        self,
        module: str,
        *,
        phase: Callable[[], Phase],
        staging: str,
        **arguments: Any,
    ) -> Counters:
        """Builds a pipeline, runs it and waits for its end.

        Args:
          module: its function `build` adds the steps to an `apache_beam.Pipeline`. Imported only in
            the other process.
          phase: says which of the counters of `beam_progress.add` are to be shown.
          staging: folder of the run, given to `build` too.
          arguments: the other ones of `build`.

        Returns:
          The pipeline's counters, as far as the runner tells them.

        Raises:
          UserError: the pipeline failed.
        """
        try:
            self._pipe.send((module, {**arguments, "staging": staging}))
            with Watch(staging, phase) as watch:
                return self._wait(watch)
        except (EOFError, ConnectionError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_SECONDS_TO_END)
            raise UserError(
                f"the process that started {self._runner} ended with exit status "
                f"{self._process.returncode}; run the same command again"
            ) from None

    def _wait(self, watch: Watch) -> Counters:
        while True:
            if not self._pipe.poll(_SECONDS_BETWEEN_LOOKS):
                watch.look(self._where_to_look)
                continue
            kind, value = self._pipe.recv()
            if kind == "done":
                return value
            if kind == "said":
                _log.info("%s", value)
            elif kind == "look":
                self._where_to_look = value
            else:
                raise (UsageError if kind == "usage" else UserError)(value)

    def __enter__(self) -> Launcher:
        here, there = socket.socketpair()
        with here, there:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
            self._pipe = Connection(here.detach())
        self._pipe.send(list(sys.path))
        self._pipe.send((self._runner, self._options))
        return self

    def __exit__(self, *exception: object) -> None:
        # The launcher cancels what it can when this end of the pipe is closed, and then ends.
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_LAUNCH = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from data_prep.beam.launcher import launch
launch(pipe)
"""
