"""Texts as inputs of the encoder: single texts, pairs, and long texts in overlapping windows.

Knows no TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_clinical.tokenization import CLS, SEP
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.line_encoder import LineEncoder
from data_prep.common.program import UserError

_PAIR = re.compile(r"^(.*) \|\|\| (.*)$")


class Text(NamedTuple):
    """One text, or a pair of them if there is a `text_b`."""

    row_id: str
    text_a: str
    text_b: str = ""


@dataclass(frozen=True)
class Window:
    """One sequence for the encoder.

    Attributes:
      input_ids: with `[CLS]` and `[SEP]`.
      segment_ids: 1 for the second text of a pair.
      first: the first position that counts for the mean of its text.
      end: the one after the last that counts.
    """

    input_ids: Sequence[int]
    segment_ids: Sequence[int]
    first: int
    end: int


class TextWindows(NamedTuple):
    """A text's windows, in order, at least one."""

    row_id: str
    windows: Sequence[Window]


def read_lines(path: Path) -> Iterator[Text]:
    """Yields a text for each line, a pair where ` ||| ` parts it; the row id is its number from 0.

    Raises:
      UserError: a line is not UTF-8.

    Source: google-research/bert extract_features.py.
    """
    with path.open("rb") as stream:
        for index, raw in enumerate(stream):
            try:
                line = raw.decode().strip()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {index + 1}: byte {error.start + 1} is not UTF-8; convert the "
                    "file to UTF-8"
                ) from None
            pair = _PAIR.match(line)
            if pair is None:
                yield Text(str(index), line)
            else:
                yield Text(str(index), pair.group(1), pair.group(2))


class TextEncoder:
    """Makes the encoder's inputs of texts.

    Args:
      model: says how texts are tokenized.
      max_seq_length: WordPieces of an input, special ones included.
    """

    def __init__(self, model: PretrainedModel, max_seq_length: int) -> None:
        tokenizer = model.tokenizer()
        self._encoder = LineEncoder(tokenizer)
        self._cls, self._sep = tokenizer.convert_tokens_to_ids([CLS, SEP])
        self._max_seq_length = max_seq_length

    def cut(self, text: Text) -> tuple[Window, int]:
        """Returns a text as one input, as the original makes it, and how many WordPieces it lost.

        Source: google-research/bert extract_features.py.
        """
        ids_a, ids_b = self._ids(text.text_a), self._ids(text.text_b)
        if ids_b:
            kept_a, kept_b = _pair_lengths(len(ids_a), len(ids_b), self._max_seq_length - 3)
        else:
            kept_a, kept_b = min(len(ids_a), self._max_seq_length - 2), 0
        ids = [self._cls, *ids_a[:kept_a], self._sep]
        segments = [0] * len(ids)
        if kept_b:
            ids += [*ids_b[:kept_b], self._sep]
            segments += [1] * (kept_b + 1)
        lost = len(ids_a) + len(ids_b) - kept_a - kept_b
        return Window(ids, segments, 0, len(ids)), lost

    def windows(self, text: Text, doc_stride: int) -> list[Window]:
        """Returns a single text as one input or several that overlap.

        Every WordPiece counts in one of them, where it stands farther from the edges, `[CLS]` in
        the first and `[SEP]` in the last.

        Args:
          text: without `text_b`.
          doc_stride: WordPieces from the start of one window to that of the next, at most; so many
            that the last is as long as the others.
        """
        ids = self._ids(text.text_a)
        room = self._max_seq_length - 2
        starts = [*range(0, len(ids) - room, doc_stride), max(len(ids) - room, 0)]
        cuts = [(start + following + room) // 2 for start, following in pairwise(starts)]
        windows = []
        for start, begin, end in zip(starts, [0, *cuts], [*cuts, len(ids)], strict=True):
            part = ids[start : start + room]
            windows.append(
                Window(
                    [self._cls, *part, self._sep],
                    [0] * (len(part) + 2),
                    begin - start + (start > 0),
                    end - start + 1 + (end == len(ids)),
                )
            )
        return windows

    def _ids(self, text: str) -> list[int]:
        encoded, _ = self._encoder.encode(text)
        return np.frombuffer(encoded, np.uint32).tolist()


def _pair_lengths(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    """Returns what is left of two texts if the longer, else the second, loses one at a time."""
    if length_a + length_b <= room:
        return length_a, length_b
    half = room // 2
    if length_b <= half:
        return room - length_b, length_b
    if length_a <= room - half:
        return length_a, room - length_a
    return room - half, half
