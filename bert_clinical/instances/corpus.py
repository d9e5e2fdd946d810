"""Pretraining text → token ids in flat arrays: a few bytes a word, however large the archive."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bert_clinical.wordpieces.line_encoder import LineEncoder
from data_prep.common.hashed_text import HashedText

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
      input_files: UTF-8 text, gzip or not.
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
        with HashedText(path) as file:
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
