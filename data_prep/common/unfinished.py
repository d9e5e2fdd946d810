"""Files and folders that a program has begun and not yet put in place.

A signal becomes an exception wherever a program happens to be, also between the making of a file
and the block that would discard it. So a name is noted before anything stands under it, and what
is noted still at the end of the program goes then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_noted: set[Path] = set()
# A process that is forked off has nothing of its own yet.
os.register_at_fork(after_in_child=_noted.clear)


def note(path: Path) -> Path:
    """Notes a name before anything stands under it, and returns it."""
    _noted.add(path)
    return path


def forget(path: Path) -> None:
    """Takes note that what stood under a name has been put in place, or was never made."""
    _noted.discard(path)


def discard(path: Path) -> None:
    """Removes a file or folder that is noted; any other is left alone."""
    if path in _noted:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        _noted.discard(path)


@atexit.register
def discard_all() -> None:
    """Removes what this process has begun and not put in place; for the end of a program."""
    for path in list(_noted):
        discard(path)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Makes a folder among temporary files, which is gone at the end of the block or the program.

    Unlike `tempfile.TemporaryDirectory` it leaves none where a signal comes just as it is made or
    removed.
    """
    path = note(Path(tempfile.gettempdir(), f"bert-clinical.{secrets.token_hex(8)}"))
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        discard(path)
