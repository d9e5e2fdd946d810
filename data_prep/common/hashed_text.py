"""A file of text, gzip or not, that is hashed while its lines are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from data_prep.common.errors import UserError, os_error_message


class HashedText(io.RawIOBase):
    """A text that is hashed as it is read, so that the hash is of what was used.

    Args:
      path: UTF-8 text, gzip if the name ends in `.gz`.

    Attributes:
      bytes_read: how much of the file was read, as stored.

    Raises:
      UserError: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._file = self._path.open("rb", buffering=0)
        except OSError as error:
            raise UserError(os_error_message(error)) from None
        self._hash = hashlib.sha256()
        self.bytes_read = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads the next bytes, as stored, into `buffer`."""
        count = cast(Any, self._file).readinto(buffer)
        self._hash.update(memoryview(buffer)[:count])
        self.bytes_read += count
        return int(count)

    def close(self) -> None:
        """Closes the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def lines(self) -> Iterator[str]:
        """Yields the lines, decompressed and stripped of white space. Only "\\n" ends a line.

        Raises:
          UserError: a line is not UTF-8, or the file is not gzip.
        """
        stream: IO[bytes] = io.BufferedReader(self, 1 << 20)
        if self._path.name.endswith(".gz"):
            stream = io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=stream)), 1 << 20)
        number = 0
        try:
            for line in stream:
                number += 1
                yield line.decode().strip()
        except UnicodeDecodeError:
            raise UserError(
                f"{self._path}, line {number}: not UTF-8; convert the file with iconv"
            ) from None
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise UserError(
                f"{self._path}: the gzip file is cut short or corrupt; make or fetch it again"
            ) from None
        except OSError as error:
            raise UserError(f"{self._path}: {os_error_message(error)}") from None

    def hexdigest(self) -> str:
        """Returns the SHA-256 of what was read, in hexadecimal."""
        return self._hash.hexdigest()
