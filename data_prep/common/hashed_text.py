"""A file of text, gzip or not, that is hashed while its lines are read."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from data_prep.common import contents
from data_prep.common.errors import UserError, os_error_message
from data_prep.common.hashed_stream import HashedStream


class HashedText(HashedStream):
    """A text that is hashed as it is read, so that the hash is of what was used.

    Args:
      path: UTF-8 text, gzip or not.

    Attributes:
      bytes_read: how much of the file was read, as stored.

    Raises:
      UserError: it cannot be opened, or is no text.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            content = contents.look_at(str(path))
            contents.require_text(str(path), content)
            stream = self._path.open("rb", buffering=0)
        except OSError as error:
            raise UserError(os_error_message(error)) from None
        self._is_gzip = content.is_gzip
        super().__init__(stream)

    def lines(self) -> Iterator[str]:
        """Yields the lines, decompressed, without carriage returns, stripped of white space.

        Only "\\n" ends a line. A carriage return is dropped wherever it stands, as the reader of
        Google's programs drops it.

        Raises:
          UserError: a line is not UTF-8 or too long, or the gzip file is broken.
        """
        stream: IO[bytes] = io.BufferedReader(self, 1 << 20)
        if self._is_gzip:
            stream = io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=stream)), 1 << 20)
        path = str(self._path)
        try:
            for number, line in enumerate(contents.raw_lines(stream, path), 1):
                text = contents.decode_line(line, path, number).replace("\r", "")
                # Of a last line of carriage returns alone nothing is left: the end of the file.
                if text:
                    yield text.strip()
        except OSError as error:
            raise UserError(f"{self._path}: {os_error_message(error)}") from None
