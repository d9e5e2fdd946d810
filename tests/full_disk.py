"""Files that find no space left when they are written, on any machine."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


def fdopen(start_of_name: str) -> Callable[..., IO[Any]]:
    """Returns an `os.fdopen` for whose files of such a name the disk is full."""
    real = os.fdopen

    def full_fdopen(descriptor: int, *args: Any, **kwargs: Any) -> IO[Any]:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith(start_of_name):
            # Whatever is written to /dev/full finds no space left.
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, descriptor, inheritable=False)
            os.close(full)
        return real(descriptor, *args, **kwargs)

    return full_fdopen


@contextlib.contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """Has every write beyond a size of a file fail in the block, TensorFlow's and others' too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
