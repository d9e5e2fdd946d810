"""Who may read what a program writes: the user alone, unless told otherwise.

Notes and what is made of them lie on machines that many share. So a program asks the kernel to
make its files, and those of every library and worker of its own, without a right for others. What
is there already keeps its mode, and its replacement takes it over.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from data_prep.common.errors import UsageError

NAME = "output_mode"

_DEFAULT = "0600"
_MODE = re.compile(r"0?[0-7]{3}")
_OWNER = stat.S_IRUSR | stat.S_IWUSR


def define(values: flags.FlagValues) -> None:
    """Defines the flag."""
    flags.DEFINE_string(
        NAME,
        _DEFAULT,
        "The mode of files that are made, in octal; folders can also be entered by who may read "
        "them. What exists keeps its mode.",
        flag_values=values,
    )


@contextlib.contextmanager
def made_with(mode: str) -> Iterator[None]:
    """Has files and folders that are made in the block, also by workers, be of a mode.

    Args:
      mode: of files, in octal.

    Raises:
      UsageError: it is no mode with which the owner can read and write.
    """
    if not _MODE.fullmatch(mode) or int(mode, 8) & _OWNER != _OWNER or int(mode, 8) & 0o111:
        raise UsageError(
            f"--{NAME}: expected an octal mode of files with which their owner can read and write, "
            "such as 0600, 0640 or 0644"
        )
    files = int(mode, 8)
    before = os.umask(~(files | files >> 2 & 0o111) & 0o777)
    try:
        yield
    finally:
        os.umask(before)


def keep(existing: Path, new: Path) -> None:
    """Gives a file or folder the mode of the one that it is about to replace, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        set_mode(new, stat.S_IMODE(existing.stat().st_mode))


def set_mode(path: Path, mode: int) -> None:
    """Gives a file or folder a mode if it has another and belongs to this user.

    One of a worker that is another user has the mode that its own umask decides.
    """
    if stat.S_IMODE(path.stat().st_mode) != mode:
        with contextlib.suppress(PermissionError):
            path.chmod(mode)


def of_new_file() -> int:
    """Returns the mode that a new file has."""
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask
