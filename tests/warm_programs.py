"""Runs programs as processes of their own that have TensorFlow imported from the start.

An import of TensorFlow takes seconds and most runs of a test less than one. So a process that has
imported it, and done nothing else, forks the runs: each has its own memory, arguments, environment
and exit as a program that a shell starts. The tests of installation, quickstart, signals and kills
start programs as users do.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

_LONGEST_REQUEST = 1 << 20


class WarmPrograms:
    """The process that forks the runs; started by the first, ends with this one.

    Args:
      root: the folder in which programs run.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._owner = 0
        self._socket: socket.socket | None = None

    def run(self, module: str, args: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Does what `subprocess.run` does for `python -m module args`.

        Raises:
          subprocess.TimeoutExpired: the program was still at work, and has been killed.
        """
        server = self._server()
        argv = [sys.executable, "-m", module, *args]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            request = {"module": module, "args": args, "environment": dict(os.environ)}
            data = json.dumps(request).encode()
            server.settimeout(timeout)
            socket.send_fds(server, [data], [out.fileno(), err.fileno()])
            pid = int(server.recv(64))
            try:
                status = int(server.recv(64))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                server.settimeout(None)
                server.recv(64)
                raise subprocess.TimeoutExpired(argv, timeout) from None
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode())
        return subprocess.CompletedProcess(argv, status, *texts)

    def _server(self) -> socket.socket:
        if self._socket is None or self._owner != os.getpid():
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in (here, there):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_REQUEST)
            with there:
                subprocess.Popen(
                    [sys.executable, "-m", __name__, str(there.fileno())],
                    cwd=self._root,
                    pass_fds=[there.fileno()],
                )
            self._socket, self._owner = here, os.getpid()
        return self._socket


def _serve(server: socket.socket) -> None:
    """Forks a run for each request; in the process of a run, returns when it may begin."""
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401

    import bert_clinical.nn.tensorflow  # noqa: F401

    # Else each run would copy the memory of what it does not use, to look for cycles in it.
    gc.collect()
    gc.freeze()
    while True:
        data, streams, _, _ = socket.recv_fds(server, _LONGEST_REQUEST, 2)
        if not data:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            server.close()
            _become(json.loads(data), streams)
            return
        for stream in streams:
            os.close(stream)
        server.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            server.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Takes over the environment, the arguments and the streams of a run."""
    os.environ.clear()
    os.environ.update(request["environment"])
    for stream, place in zip(streams, (1, 2), strict=True):
        os.dup2(stream, place)
        os.close(stream)
    sys.argv[1:] = [request["module"], *request["args"]]


def _status_of(module: str) -> int:
    """Runs a module as a program and returns its exit status, as Python itself would."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> NoReturn:
    """Ends as Python does, but without taking TensorFlow's modules apart, which takes a second."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _end(_status_of(sys.argv.pop(1)))
