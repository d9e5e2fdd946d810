"""PyTorch and transformers in a process of their own, which never imports TensorFlow.

pip's PyTorch for Linux brings Triton. Triton and TensorFlow each carry an LLVM, and a process that
loads Triton after TensorFlow dies of SIGSEGV (tensorflow/tensorflow issue 124205). transformers
loads Triton as soon as a model class is touched. So whatever needs PyTorch is a function that is
called in this process: it takes paths and arrays and answers with arrays.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, cast

from data_prep.common.errors import UserError, internal_error_message

_SECONDS_TO_END = 5.0


def is_available(*packages: str) -> bool:
    """Tells whether packages are installed, by default both, without importing them."""
    return all(importlib.util.find_spec(name) for name in packages or ("torch", "transformers"))


class PyTorchProcess:
    """A process that calls functions of modules that know no TensorFlow; a context manager.

    It starts at once, so that its imports run beside what the caller does next, and ends with the
    block, or with this object.

    Args:
      what: the work, as the subject of an error's sentence ("the check in PyTorch").
      advice: what the user can do if the process dies.
    """

    def __init__(self, what: str, advice: str) -> None:
        self._what, self._advice = what, advice
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = _started(theirs)
        self._end = weakref.finalize(self, _end, self._process, self._pipe)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Returns what a function returns there.

        Args:
          function: stands at the top of a module; that module imports no TensorFlow.
          *args: can be pickled, as can the keyword arguments and the answer.

        Raises:
          UserError: the function raised it, failed in another way, or the process died.
        """
        self._request(function, args, kwargs)
        return self._receive()[1]

    def iterate(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yields what a generator function yields there, one item at a time.

        Raises:
          UserError: as `call` does.
        """
        self._request(function, args, kwargs)
        finished = False
        try:
            while True:
                kind, value = self._receive()
                if kind == "done":
                    finished = True
                    return
                yield value
        finally:
            if not finished:
                self._end()

    def __enter__(self) -> PyTorchProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _request(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            self._pipe.send((function.__module__, function.__qualname__, args, kwargs))
        except OSError:
            raise self._death() from None

    def _receive(self) -> tuple[str, Any]:
        # This process holds no copy of the other end, so a death ends the stream and wakes us.
        try:
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._death() from None
        if kind == "error":
            raise UserError(value)
        return kind, value

    def _death(self) -> UserError:
        code = self._process.wait()
        memory = ""
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                memory = ", as happens when memory runs out"
        else:
            how = f"ended with exit status {code}"
        return UserError(f"{self._what} {how}{memory}; {self._advice}")


def _started(pipe: Connection) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(pipe.fileno())],
        # The modules that this process finds, wherever it was started.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        pass_fds=[pipe.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _end(process: subprocess.Popen[bytes], pipe: Connection) -> None:
    pipe.close()
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _serve(pipe: Connection) -> None:
    # Ctrl-C reaches the whole group; the one who called is the one to answer it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An import of TensorFlow fails from here on, rather than work by luck.
    sys.modules["tensorflow"] = cast(Any, None)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    while True:
        try:
            module, name, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            answer = getattr(importlib.import_module(module), name)(*args, **kwargs)
            if isinstance(answer, Iterator):
                for item in answer:
                    pipe.send(("item", item))
                answer = None
            reply = ("done", answer)
        except UserError as error:
            reply = ("error", str(error))
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001
            reply = ("error", internal_error_message(error))
        pipe.send(reply)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
