"""Paths that a user gives on the command line."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import IO

from data_prep.common.errors import UsageError, UserError, os_error_message


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


def expand_patterns(patterns: str, flag: str) -> list[Path]:
    """Returns the files that comma-separated paths and globs name, each pattern's sorted.

    Raises:
      UserError: a pattern matches no file, or names a folder.
    """
    found: list[Path] = []
    for pattern in patterns.split(","):
        if not pattern:
            raise UsageError(f"--{flag}: an empty path stands between two commas; remove it")
        matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not matches:
            raise UserError(f"--{flag}: no file matches {pattern}; check the path")
        found += [require_readable_file(match, flag) for match in matches]
    return found


def make_folder(output_dir: Path) -> None:
    """Makes the output folder if it does not exist.

    Raises:
      UserError: a file is in its way.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"--output_dir: {output_dir} is a file or lies below one; a folder was expected"
        ) from None
