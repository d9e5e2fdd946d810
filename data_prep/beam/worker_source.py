"""The process that a pool's workers are copies of: it has imported what they need, and forks.

Engines ask for new workers at each stage of a job, and Beam's imports take seconds. A copy is there
at once. This process has no thread of its own and never uses gRPC, so that copies are sound.

It reads a line of JSON for each worker that is wanted, the environment that Beam expects of one,
and answers with lines of JSON: `{"ready": true}` when its imports are done, `{"started": pid}`,
and when one has ended, `{"ended": pid, "status": status}`, negative for a signal. It ends when its
input does, and its workers with it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from apache_beam.runners.worker import sdk_worker_main

_CHUNK_BYTES = 1 << 16


def main(modules: list[str]) -> None:
    """Imports `modules`, then starts workers until its input ends."""
    answers = os.dup(sys.stdout.fileno())
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, sys.stdout.fileno())
    for module in modules:
        importlib.import_module(module)
    # What is here already stays shared with the copies.
    gc.freeze()
    # Workers hold the reading end, which ends when this process does, however that ends.
    alive, held = os.pipe()
    ended, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wakes)
    _answer(answers, ready=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        unfinished = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if ended in ready:
                os.read(ended, _CHUNK_BYTES)
                for pid, status in _ended_workers():
                    _answer(answers, ended=pid, status=status)
            if sys.stdin.fileno() not in ready:
                continue
            data = os.read(sys.stdin.fileno(), _CHUNK_BYTES)
            if not data:
                return
            *lines, unfinished = (unfinished + data).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.dup2(nowhere, sys.stdin.fileno())
                    for descriptor in (answers, held, ended, wakes):
                        os.close(descriptor)
                    _work(json.loads(line), alive)
                _answer(answers, started=pid)


def _answer(answers: int, **values: Any) -> None:
    os.write(answers, json.dumps(values).encode() + b"\n")


def _ended_workers() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _work(environment: dict[str, str], alive: int) -> NoReturn:
    """Is a worker of Beam's until the engine ends it."""

    def end_with_source() -> None:
        os.read(alive, 1)
        os._exit(0)

    status = 1
    try:
        os.environ.update(environment)
        threading.Thread(target=end_with_source, daemon=True).start()
        sdk_worker_main.main([])
        status = 0
    finally:
        # A copy must not go on as what it is a copy of. The pool tells of the status.
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
