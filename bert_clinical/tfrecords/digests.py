"""The SHA-256 of files, kept from start to start, so that large data is read for it only once."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from data_prep.common import atomic_files
from data_prep.common.errors import UserError, os_error_message
from data_prep.common.json_files import parse_json_object
from data_prep.common.own_files import DIGESTS_NAME

_log = logging.getLogger(__name__)

_SLOW_BYTES = 4_000_000_000


def identity(path: str | os.PathLike[str]) -> str:
    """Returns a name for a file as it stands now, which changes with what it holds.

    Raises:
      UserError: there is no such file.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise UserError(os_error_message(error)) from None
    text = f"{Path(path).resolve()}\n{status.st_size}\n{status.st_mtime_ns}\n{status.st_ino}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


class Digests:
    """Which files have which SHA-256.

    Args:
      folder: where they are kept for the next start. None keeps nothing.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._path = None if folder is None else Path(folder) / DIGESTS_NAME
        self._known: dict[str, Any] = {} if self._path is None else _read(self._path)
        self._found: dict[str, str] = {}

    def is_one_of(self, path: str | os.PathLike[str], digests: Collection[str]) -> bool:
        """Tells whether a file has one of some digests; reads it unless that is known already.

        What was kept can say yes and never no: if it is damaged the file is read again.

        Args:
          path: the file.
          digests: SHA-256 in hexadecimal.
        """
        # Before the reading: a file that changes meanwhile has another name from then on.
        name = identity(path)
        known = self._known.get(name)
        if isinstance(known, str) and known in digests:
            return True
        size = Path(path).stat().st_size
        if size > _SLOW_BYTES:
            _log.info("Comparing %s with its sidecar (%.1f GB), once", path, size / 1e9)
        self._found[name] = atomic_files.sha256_of_file(path)
        return self._found[name] in digests

    def keep(self) -> None:
        """Keeps what was read, in the folder, which exists."""
        if self._path is not None and self._found:
            self._known |= self._found
            self._found = {}
            atomic_files.write_json(self._path, self._known)


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_json_object(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UserError:
        _log.info("%s is damaged and is made again", path)
        return {}
