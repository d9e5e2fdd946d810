"""A stream that is hashed while it is read, so that its hash costs no further pass."""

from __future__ import annotations

import hashlib
import io
from typing import IO, Any


class HashedStream(io.RawIOBase):
    """A stream of bytes that is read from its beginning, and hashed on the way.

    Args:
      stream: whose bytes it hands on; closed with it.

    Attributes:
      bytes_read: how much of the stream was read.
    """

    def __init__(self, stream: IO[bytes] | io.RawIOBase) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.bytes_read = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads the next bytes into `buffer`."""
        data = self._stream.read(len(buffer)) or b""
        buffer[: len(data)] = data
        self._hash.update(data)
        self.bytes_read += len(data)
        return len(data)

    def close(self) -> None:
        """Closes the stream."""
        if not self.closed:
            self._stream.close()
        super().close()

    def hexdigest(self) -> str:
        """Returns the SHA-256 of what was read, in hexadecimal."""
        return self._hash.hexdigest()
