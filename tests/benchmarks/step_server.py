"""Steps of training made one at a time on request, by a process of its own.

Every program that is compared has its own process: threads of one that still spin after its step
would otherwise take time from the next. This module needs nothing but the standard library, for it
also runs under the interpreter of an older TensorFlow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What one step took.

    Attributes:
      seconds: by the clock.
      cpu_seconds: of all threads together.
      loss: of the batch before the update.
    """

    seconds: float
    cpu_seconds: float
    loss: float


class StepClient:
    """A process that makes a step whenever it is asked for one.

    Args:
      command: starts a program that ends in `serve`.
      folder: where it runs.
    """

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def step(self) -> Timing:
        """Has a step made and waits for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._process.args!r} ended before it had made its step")
        return Timing(**json.loads(answer))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def serve(step: Callable[[], float]) -> None:
    """Makes a step, which returns its loss, for each line of standard input."""
    # Whatever a library prints must not stand among the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for _ in sys.stdin:
            begin, cpu_begin = time.perf_counter(), time.process_time()
            loss = step()
            timing = Timing(time.perf_counter() - begin, time.process_time() - cpu_begin, loss)
            answers.write(json.dumps(timing.__dict__) + "\n")
            answers.flush()
