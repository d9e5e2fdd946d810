"""Processes that each build something costly once and then work through batches.

A worker that dies or fails ends the run with an error that names its batch. A program that dies,
even by SIGKILL, takes its workers with it, so none goes on writing beside the next run.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, NamedTuple, TypeVar, cast

from data_prep.common.errors import UserError, internal_error_message

Batch = TypeVar("Batch")
Result = TypeVar("Result")

_SECONDS_TO_END = 5.0
_START = "its start"
_PR_SET_PDEATHSIG = 1


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


class Workers(Generic[Batch, Result]):
    """A number of workers; a context manager, at whose end they end.

    One worker works in this process; more are spawned. They end with the thread that makes this
    object, too.

    Args:
      make_worker: builds what turns a batch into a result, in the worker; can be pickled.
      num_workers: how many.

    Attributes:
      description: the `description` of what `make_worker` built.

    Raises:
      UserError: `make_worker` raised it, or a worker died.
    """

    def __init__(
        self, make_worker: Callable[[], Callable[[Batch], Result]], num_workers: int
    ) -> None:
        self._here: Callable[[Batch], Result] | None = None
        self._workers: list[_Worker] = []
        if num_workers == 1:
            self._here = make_worker()
            self.description: dict[str, str] = getattr(self._here, "description", {})
            return
        context = multiprocessing.get_context("spawn")
        try:
            for number in range(num_workers):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_serve,
                    args=(make_worker, theirs, os.getpid()),
                    name=f"worker {number}",
                    daemon=True,
                )
                process.start()
                theirs.close()
                self._workers.append(_Worker(process, ours))
            for worker in self._workers:
                self.description = _receive(worker, _START)
        except BaseException:
            self._end()
            raise

    def work(self, batches: Iterable[tuple[str, Batch]]) -> Iterator[tuple[str, Result]]:
        """Yields each batch's name and result as they are done, in any order.

        Batches are taken only as workers become free, and one ahead.

        Args:
          batches: what to do, each under a name for errors.

        Raises:
          UserError: a worker died or failed; names the batch.
        """
        if self._here is not None:
            for name, batch in batches:
                yield name, self._here(batch)
            return
        upcoming = iter(batches)
        following = next(upcoming, None)
        idle = list(self._workers)
        busy: dict[Connection, tuple[_Worker, str]] = {}
        while following is not None or busy:
            while idle and following is not None:
                worker = idle.pop()
                name, batch = following
                busy[worker.pipe] = worker, name
                try:
                    worker.pipe.send(batch)
                except OSError:
                    raise _death(worker, name) from None
                following = next(upcoming, None)
            for pipe in wait(list(busy)):
                worker, name = busy.pop(cast(Connection, pipe))
                result = _receive(worker, name)
                idle.append(worker)
                yield name, result

    def __enter__(self) -> Workers[Batch, Result]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_SECONDS_TO_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _receive(worker: _Worker, name: str) -> Any:
    # The parent holds no copy of the worker's end, so its death ends the stream and wakes us.
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        raise _death(worker, name) from None
    if kind == "error":
        raise UserError(value if name == _START else f"{name}: {value}")
    return value


def _death(worker: _Worker, name: str) -> UserError:
    worker.process.join(_SECONDS_TO_END)
    code = worker.process.exitcode
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit status {code}"
    memory = ", as happens when memory runs out (then give fewer --num_workers)"
    return UserError(
        f"a worker process {how} at {name}{memory if code == -signal.SIGKILL else ''}; "
        "run the same command again to go on from there"
    )


def end_with(parent: int) -> None:
    """Lets the kernel kill this process as soon as its parent has ended, however it ended.

    A pipe that closes would be noticed only between two batches, or by a thread that waits for the
    interpreter while compiled code runs.

    Args:
      parent: its process number; if it has ended already, this process ends here.

    Raises:
      OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    # The parent may have ended before the call above; then somebody else is the parent now.
    if os.getppid() != parent:
        os._exit(1)


def _serve(make_worker: Callable[[], Callable[[Any], Any]], pipe: Connection, parent: int) -> None:
    end_with(parent)
    # Ctrl-C reaches the whole group; the parent is the one to answer it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    try:
        work = make_worker()
        pipe.send(("ready", getattr(work, "description", {})))
        while True:
            pipe.send(("done", work(pipe.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except UserError as error:
        pipe.send(("error", str(error)))
    except Exception as error:  # noqa: BLE001
        pipe.send(("error", internal_error_message(error)))
