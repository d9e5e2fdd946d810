"""One run at a time for a folder of a file system that has no locks, such as an object store.

A run leaves a file with its own id in the folder and writes it anew while it lives. Another run
that finds one which changes stops. One that no longer changes is of a run that was killed, and is
taken over.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator

from data_prep.common import atomic_files, files
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

NAME = "run.lease"
"""The file in the folder."""

_SECONDS_BETWEEN_RENEWALS = 20.0
# A lease that is not renewed for so long is of a run that was killed.
_SECONDS_OF_SILENCE = 90.0
_SECONDS_BETWEEN_LOOKS = 2.0
# Of two runs that begin together, the one whose file stays has the folder.
_SECONDS_TO_SETTLE = 2.0


@contextlib.contextmanager
def held(folder: str, what: str) -> Iterator[Callable[[], None]]:
    """Holds a folder of this machine by a lock, of another file system by a lease.

    Yields what checks that the folder is still held, as `leased` does.

    Args:
      folder: exists.
      what: who writes there, for the error of another.

    Raises:
      UserError: another run holds it.
    """
    if files.is_remote(folder):
        with leased(folder, what) as require_own:
            yield require_own
    else:
        with atomic_files.held(folder, what):
            yield lambda: None


@contextlib.contextmanager
def leased(folder: str, what: str) -> Iterator[Callable[[], None]]:
    """Holds a folder for this run, unless another run does.

    Yields what checks that it still does, to be called before what cannot be undone; the end of the
    block calls it too.

    Clocks are not compared: a lease is judged by whether it changes while it is looked at.

    Args:
      folder: of a file system of Beam's.
      what: who writes there, for the error of another.

    Raises:
      UserError: another run holds it; by the check, another has taken it over meanwhile.
    """
    path = files.join(folder, NAME)
    run = uuid.uuid4().hex
    _await_silence(path, folder, what)
    _write(path, run, 0)
    time.sleep(_SECONDS_TO_SETTLE)
    require_own = functools.partial(_require_own, path, run, folder, what)
    require_own()
    over = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, run, over), daemon=True)
    renewal.start()
    try:
        yield require_own
        require_own()
    finally:
        over.set()
        renewal.join()
        if _run_of(_content(path) or b"") == run:
            files.remove(path)


def _await_silence(path: str, folder: str, what: str) -> None:
    """Returns when there is no lease, or one that has not changed for long.

    Raises:
      UserError: it changes.
    """
    found = _content(path)
    begin = time.monotonic()
    if found is not None:
        _log.info(
            "%s is of another run; looking for %.0f s whether that run lives",
            path, _SECONDS_OF_SILENCE,
        )  # fmt: skip
    while found is not None and time.monotonic() - begin < _SECONDS_OF_SILENCE:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        now = _content(path)
        if now is not None and now != found:
            _refuse(now, folder, what)
        found = now


def _require_own(path: str, run: str, folder: str, what: str) -> None:
    """Checks that the lease is still this run's.

    Raises:
      UserError: it is another's, or gone.
    """
    found = _content(path)
    if found is None or _run_of(found) != run:
        _refuse(found or b"", folder, what)


def _refuse(found: bytes, folder: str, what: str) -> None:
    run = _run_of(found) or "unknown"
    raise UserError(
        f"{folder}: another {what} writes there, run {run[:8]} (its {NAME} says so); wait for its "
        "end, or choose another --output_dir"
    )


def _renew(path: str, run: str, over: threading.Event) -> None:
    """Writes the lease anew until it is over, or another's."""
    count = 0
    while not over.wait(_SECONDS_BETWEEN_RENEWALS):
        # A store that is out of reach for a while: the next time may do, and the end is checked.
        with contextlib.suppress(UserError, OSError):
            found = _content(path)
            if found is not None and _run_of(found) != run:
                return
            count += 1
            _write(path, run, count)


def _write(path: str, run: str, count: int) -> None:
    """Writes a lease: whose, on which machine, and how often it was renewed."""
    lease = {"run": run, "machine": platform.node(), "renewed": count}
    files.write(path, json.dumps(lease).encode())


def _content(path: str) -> bytes | None:
    """Returns what stands in a lease, None if there is none."""
    try:
        return files.read(path) if files.size(path) is not None else None
    except (UserError, OSError):
        # It was written anew between the two calls.
        return None


def _run_of(content: bytes) -> str | None:
    """Returns whose a lease is."""
    try:
        return str(json.loads(content)["run"])
    except (ValueError, KeyError, TypeError):
        return None
