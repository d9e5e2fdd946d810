"""Pretraining text → token ids in flat arrays: a few bytes a word, however large the archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from bert_clinical.wordpieces.line_encoder import LineEncoder
from data_prep.common.errors import UserError, os_error_message

_LINES_PER_REPORT = 20_000


@dataclass(frozen=True)
class Corpus:
    """The documents of all input files.

    Attributes:
      token_ids: uint16 or uint32 [tokens].
      sentence_starts: int64 [sentences + 1], places in `token_ids`.
      document_starts: int64 [documents + 1], places in `sentence_starts`.
      words: how many runs of anything but spaces the text has.
      sha256: of each input file's bytes, in order.
    """

    token_ids: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray
    words: int
    sha256: tuple[str, ...]

    @property
    def sentences(self) -> int:
        """How many sentences there are."""
        return len(self.sentence_starts) - 1

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.document_starts) - 1


def read_corpus(
    *,
    input_files: Sequence[str | os.PathLike[str]],
    encoder: LineEncoder,
    typecode: str,
    advance: Callable[[int, int], None] = lambda size, words: None,
) -> Corpus:
    """Reads and tokenizes text: a sentence a line, a blank line between documents.

    Only "\\n" ends a line. The end of a file does not end a document, as in the original.

    Args:
      input_files: UTF-8 text, gzip where the name ends in `.gz`.
      encoder: gives the ids of a line, of the type of `typecode`.
      typecode: "H" (uint16) or "I" (uint32).
      advance: called now and then with the bytes (as stored) and words read since.

    Raises:
      UserError: a file cannot be read, is not UTF-8 (names the line) or not gzip.

    Source: google-research/bert `create_pretraining_data.py`.
    """
    token_ids = bytearray()
    lengths = array("I")
    document_lengths = array("I")
    hashes = []
    total = words = in_document = 0
    for path in input_files:
        reported_bytes = reported_words = 0
        with TextFile(path) as file:
            for number, text in enumerate(file.lines(), 1):
                if text:
                    ids, line_words = encoder.encode(text)
                    words += line_words
                    if ids:
                        token_ids += ids
                        lengths.append(len(ids))
                        in_document += 1
                elif in_document:
                    document_lengths.append(in_document)
                    in_document = 0
                if number % _LINES_PER_REPORT == 0:
                    advance(file.bytes_read - reported_bytes, words - total - reported_words)
                    reported_bytes, reported_words = file.bytes_read, words - total
            advance(file.bytes_read - reported_bytes, words - total - reported_words)
            total = words
            hashes.append(file.hexdigest())
    if in_document:
        document_lengths.append(in_document)
    return Corpus(
        token_ids=np.frombuffer(token_ids, typecode),
        sentence_starts=_starts(lengths) // array(typecode).itemsize,
        document_starts=_starts(document_lengths),
        words=words,
        sha256=tuple(hashes),
    )


def _starts(lengths: array[int]) -> np.ndarray:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(np.frombuffer(lengths, "I"), out=starts[1:])
    return starts


class TextFile(io.RawIOBase):
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
