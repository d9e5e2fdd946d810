"""Programs on nodes, each with a log, that can be started again after their node was killed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.clusters.nodes import Node
from tests.running import HANG_SECONDS, ROOT


class Processes:
    """What runs on the nodes, by name; a context manager that ends it all."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: dict[str, tuple[Node, Sequence[str], Mapping[str, str]]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, node: Node, command: Sequence[str], **environment: str) -> None:
        """Starts a program on a node."""
        self._started[name] = (node, command, environment)
        self._running[name] = self._open(name)

    def restart(self, node: Node) -> None:
        """Starts again what ran on a node that was killed."""
        for name, (home, _, _) in self._started.items():
            if home == node:
                self._running[name].wait()
                self._running[name] = self._open(name)

    def log(self, name: str) -> str:
        """Returns what a program has said."""
        return self._path(name).read_text(errors="replace")

    def wait(self, what: str, is_ready: Callable[[], bool]) -> None:
        """Returns when something is ready; a program that has ended by then is an error."""
        limit = time.monotonic() + HANG_SECONDS
        while not is_ready():
            for name, process in self._running.items():
                assert process.poll() is None, f"{name} has ended:\n{self.log(name)[-2000:]}"
            assert time.monotonic() < limit, f"{what} is not ready"
            time.sleep(0.1)

    def _path(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _open(self, name: str) -> subprocess.Popen[bytes]:
        node, command, environment = self._started[name]
        with self._path(name).open("ab") as log:
            return subprocess.Popen(
                node.command(command),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )

    def __enter__(self) -> Processes:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
