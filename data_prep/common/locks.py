"""Locks on open files and folders, which the kernel gives up for whoever dies."""

from __future__ import annotations

import errno
import fcntl
import time

# EBADF: NFS locks only what is open for writing, which a folder never is.
_NO_LOCKS_THERE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF)
_SECONDS_BETWEEN_LOOKS = 0.05


def lock(descriptor: int, *, shared: bool = False, seconds: float = 0.0) -> bool | None:
    """Locks an open file or folder until it is closed.

    Args:
      descriptor: what is open.
      shared: with others who want it shared.
      seconds: how long to wait for another process.

    Returns:
      True if it is locked now, False if another process has it, None if there are no locks there.
    """
    give_up = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        except OSError as error:
            if error.errno not in _NO_LOCKS_THERE:
                raise
            return None
        else:
            return True
