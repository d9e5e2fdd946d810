"""Paths that a user gives on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from data_prep.common.errors import UserError, os_error_message

_SHOWN = 3
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Suffixes by which other programs would take a file for compressed."""


def open_local(path: str) -> IO[bytes]:
    """Opens a file of this machine."""
    return Path(path).open("rb")


def require_readable_file(path: str | os.PathLike[str], flag: str) -> Path:
    """Returns `path` if it is a file that can be opened.

    Raises:
      UserError: it is missing, a folder or unreadable; names the flag it came from.
    """
    path = Path(path)
    try:
        with path.open("rb"):
            return path
    except IsADirectoryError:
        raise UserError(f"--{flag}: {path} is a folder; a file was expected") from None
    except OSError as error:
        raise UserError(f"--{flag}: {os_error_message(error)}") from None


def is_utf8(path: str) -> bool:
    """Returns whether a name can be written into a file of text, as not every file's can."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def make_folder(path: Path, flag: str = "output_dir") -> None:
    """Makes the folder of an output, and those above it, if it does not exist.

    Args:
      path: the folder.
      flag: what the user named it, or a file in it, with.

    Raises:
      UserError: a file is in its way, or it cannot be made; names the flag.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        in_the_way = next(place for place in (path, *path.parents) if os.path.lexists(place))
        raise UserError(f"--{flag}: {in_the_way} is a file; a folder was expected") from None
    except OSError as error:
        raise UserError(f"--{flag}: {os_error_message(error)}") from None


def prepare_file(path: str | os.PathLike[str], flag: str) -> Path:
    """Returns the path of an output that is not compressed, for which the folder is made.

    Raises:
      UserError: it is a folder, has a compressed file's name, or its own folder cannot be made;
        names the flag.
    """
    path = Path(path)
    if path.suffix in _COMPRESSED:
        raise UserError(
            f"--{flag}: {path} has the name of a compressed file, and what is written is not "
            f"compressed; leave out {path.suffix}"
        )
    if path.is_dir():
        raise UserError(f"--{flag}: {path} is a folder; the name of a file was expected")
    make_folder(path.parent, flag)
    return path


def listed(paths: Iterable[object]) -> str:
    """Returns paths for a message: three of them, and how many more there are."""
    names = [str(path) for path in paths]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
