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
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from data_prep.beam.progress import Watch
from data_prep.common.program import UsageError, UserError

_log = logging.getLogger(__name__)

Counters = dict[str, int]

_SECONDS_TO_END = 30.0
_SECONDS_BETWEEN_LOOKS = 0.5


def run(
    module: str,
    *,
    runner: str,
    pipeline_options: Sequence[str],
    unit: str,
    rate_unit: str,
    total: int | None = None,
    staging: str,
    **arguments: Any,
) -> Counters:
    """Builds a pipeline, runs it and waits for its end.

    Args:
      module: its function `build` adds the steps to an `apache_beam.Pipeline`. Imported only in the
        other process.
      runner: a name that Beam knows.
      pipeline_options: the runner's.
      unit: what the steps count as done, by `beam_progress.add`.
      rate_unit: the counter whose rate is shown.
      total: how many of `unit` there are to do, if that is known.
      staging: folder of the run, given to `build` too.
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
        pipe.send((module, {**arguments, "staging": staging}, runner, list(pipeline_options)))
        with Watch(staging, unit=unit, total=total, rate_unit=rate_unit) as watch:
            return _wait(pipe, watch)
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


def _wait(pipe: Connection, watch: Watch) -> Counters:
    where_to_look = "whether the runner's machines are there"
    while True:
        if not pipe.poll(_SECONDS_BETWEEN_LOOKS):
            watch.look(where_to_look)
            continue
        kind, value = pipe.recv()
        if kind == "done":
            return value
        if kind == "said":
            _log.info("%s", value)
        elif kind == "look":
            where_to_look = value
        else:
            raise (UsageError if kind == "usage" else UserError)(value)


_LAUNCH = """
import sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = pipe.recv()
from data_prep.beam.launcher import launch
launch(pipe)
"""
