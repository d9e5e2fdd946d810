"""Runs programs as processes of their own that have TensorFlow, or PyTorch, from the start.

An import of either takes seconds and most runs of a test less than one. So a process that has
imported it, and done nothing else, forks the runs: each has its own memory, arguments, environment
and exit as a program that a shell starts, hears its signals and can be killed. The tests of
installation and the quickstart start programs as users do.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from bert_clinical.weights import pytorch_process
from tests import warm_python


class WarmProcess:
    """A run; offers what the tests need of `subprocess.Popen`.

    Attributes:
      args: as of a process that a shell would have started.
      pid: of the process.
      returncode: how it ended; None before that is known.
    """

    def __init__(self, args: Sequence[str], connection: socket.socket, streams: list[Any]) -> None:
        self.args = list(args)
        self.returncode: int | None = None
        self._connection = connection
        self._streams = streams
        self.pid = warm_python.received(connection)

    def poll(self) -> int | None:
        """Returns how the run ended, None while it is at work."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end of the run and returns how it ended.

        Raises:
          subprocess.TimeoutExpired: it is still at work.
        """
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._connection, select.POLLIN)
            if not poll.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = warm_python.received(self._connection)
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits likewise; returns what the run has written to its standard output and error."""
        self.wait(timeout)
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read().decode())
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Sends a signal to the run, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Asks the run to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the run."""
        self.send_signal(signal.SIGKILL)


class WarmPrograms:
    """The process that forks the runs; started by the first, ends with this one.

    Args:
      root: the folder in which programs run.
      imported: what they have, "tensorflow" or "pytorch".
      pytorch: forks their processes for PyTorch; None for their own way to start them.
    """

    def __init__(self, root: Path, imported: str, pytorch: WarmPrograms | None = None) -> None:
        self._root, self._imported, self._pytorch = root, imported, pytorch
        self._owner = 0

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> WarmProcess:
        """Does what `subprocess.Popen` does for `python arguments`.

        Args:
          arguments: `-m MODULE` or `-c CODE`, and what follows.
          environment: instead of that of this process. What TensorFlow looks up when it is
            imported comes too late.
        """
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        given = list(map(str, arguments))
        values = dict(os.environ if environment is None else environment)
        streams = [0, out.fileno(), err.fileno()]
        connection = warm_python.asked(self.address(), given, values, str(self._root), streams)
        return WarmProcess([sys.executable, *given], connection, [out, err])

    def run(self, module: str, args: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Does what `subprocess.run` does for `python -m module args`.

        Raises:
          subprocess.TimeoutExpired: the program was still at work, and has been killed.
        """
        process = self.start(["-m", module, *args])
        try:
            out, err = process.communicate(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(process.args, process.wait(), out, err)

    def python(self) -> Path:
        """Returns an executable that does what Python does, for shell scripts to call."""
        path = Path(self.address()).with_name("python")
        if not path.exists():
            command = [sys.executable, "-I", "-S", warm_python.__file__, self.address()]
            path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            path.chmod(0o700)
        return path

    def address(self) -> str:
        """Returns where the process that forks is asked."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            # Nobody else may ask for a run: the folder is its owner's alone.
            self._folder = tempfile.TemporaryDirectory(prefix="warm_programs.")
            self._address = f"{self._folder.name}/socket"
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(self._address)
            listener.listen(64)
            # Its end is the end of this process.
            until, self._alive = os.pipe()
            descriptors = [listener.fileno(), until]
            pytorch = [] if self._pytorch is None else [self._pytorch.address()]
            told = [self._imported, *map(str, descriptors), *pytorch]
            with listener:
                subprocess.Popen(
                    [sys.executable, "-m", __name__, *told],
                    cwd=self._root,
                    pass_fds=descriptors,
                )
            os.close(until)
        return self._address


def start_pytorch(address: str, pipe: Connection) -> WarmProcess:
    """Starts what `PyTorchProcess` starts, by the process at an address that forks those."""
    arguments = ["-m", pytorch_process.__name__]
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        streams = [*3 * [nothing.fileno()], pipe.fileno()]
        place = os.getcwd()  # noqa: PTH109
        connection = warm_python.asked(address, arguments, os.environ, place, streams)
    return WarmProcess([sys.executable, *arguments], connection, [])


def _import_tensorflow() -> None:
    import matplotlib.pyplot  # noqa: F401
    import numpy as np
    import pandas  # noqa: F401

    import bert_clinical.nn.tensorflow  # noqa: F401
    from bert_clinical.tfrecords.frames import count_records

    # The first compiled function that is called loads what all of them need of Numba.
    count_records(np.zeros(0, np.uint8), 1)


def _import_pytorch() -> None:
    # As the process for PyTorch has it.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from bert_clinical.weights.in_pytorch import quiet_transformers

    _, transformers = quiet_transformers()
    # Imported when they are first looked up.
    for name in ("AutoModel", "AutoTokenizer", "BertForPreTraining", "BertTokenizer"):
        getattr(transformers, name)


_IMPORTS = {"tensorflow": _import_tensorflow, "pytorch": _import_pytorch}


def _serve(listener: socket.socket, until: int) -> list[str]:
    """Forks a run for each request; in the process of a run, returns its arguments."""
    # Else each run would copy the memory of what it does not use, to look for cycles in it.
    gc.collect()
    gc.freeze()
    # By the descriptor that becomes readable when the run ends: the run, and who waits for its end.
    runs: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    for descriptor in (listener.fileno(), until):
        poll.register(descriptor, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready == until:
                sys.exit()
            if ready != listener.fileno():
                poll.unregister(ready)
                _tell_end(ready, *runs.pop(ready))
                continue
            waiting, _ = listener.accept()
            request, streams = warm_python.request(waiting)
            pid = os.fork()
            if pid == 0:
                for descriptor in (*runs, until):
                    os.close(descriptor)
                for other in (listener, waiting, *(waiting for _, waiting in runs.values())):
                    other.close()
                return _become(request, streams)
            for stream in streams:
                os.close(stream)
            warm_python.tell(waiting, pid)
            end = os.pidfd_open(pid)
            runs[end] = pid, waiting
            poll.register(end, select.POLLIN)


def _tell_end(end: int, pid: int, waiting: socket.socket) -> None:
    """Says how a run ended to the one that waits for it."""
    os.close(end)
    _, status = os.waitpid(pid, 0)
    with waiting:
        warm_python.tell(waiting, os.waitstatus_to_exitcode(status))


def _become(request: dict[str, Any], streams: list[int]) -> list[str]:
    """Takes over folder, environment and streams of a run; returns its arguments."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if request["folder"] != sys.path[0]:
        sys.path.insert(0, request["folder"])
    for place, stream in enumerate(streams[:3]):
        os.dup2(stream, place)
        os.close(stream)
    # Python's own know what the server's were: a file, of which a pipe has not all that it has.
    for place, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = _text_stream(place, mode, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return [*request["arguments"], *map(str, streams[3:])]


def _text_stream(descriptor: int, mode: str, like: Any) -> Any:
    stream: Any = open(  # noqa: SIM115
        descriptor, mode, encoding=like.encoding, errors=like.errors, closefd=False
    )
    stream.reconfigure(line_buffering=like.line_buffering)
    return stream


def _status_of(kind: str, what: str, *arguments: str) -> int:
    """Does what Python does for `-m MODULE` or `-c CODE`; returns its exit status."""
    try:
        if kind == "-m":
            sys.argv[1:] = arguments
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = [kind, *arguments]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), main.__dict__)
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


def _main(imported: str, listener: str, until: str, *pytorch: str) -> None:
    _IMPORTS[imported]()
    for address in pytorch:
        pytorch_process._started = functools.partial(start_pytorch, address)
    _end(_status_of(*_serve(socket.socket(fileno=int(listener)), int(until))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
