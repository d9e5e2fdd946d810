"""Texts as inputs of the encoder: single texts, pairs, and long texts in overlapping windows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_clinical.tokenization import CLS, SEP, UNK, FullTokenizer
from bert_clinical.wordpieces.line_encoder import LineEncoder
from data_prep.common.contents import text_lines

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

    Source: google-research/bert extract_features.py, whose reader drops carriage returns.
    """
    for index, raw in enumerate(text_lines(str(path))):
        line = raw.replace("\r", "").strip()
        pair = _PAIR.match(line)
        if pair is None:
            yield Text(str(index), line)
        else:
            yield Text(str(index), pair.group(1), pair.group(2))


class TextEncoder:
    """Makes the encoder's inputs of texts, with the WordPieces of `FullTokenizer`.

    Args:
      tokenizer: the model's.

    Attributes:
      cls_id: of [CLS].
      sep_id: of [SEP].
      unk_id: of [UNK].
    """

    def __init__(self, tokenizer: FullTokenizer) -> None:
        self._lines = LineEncoder(tokenizer)
        self.cls_id, self.sep_id, self.unk_id = tokenizer.convert_tokens_to_ids([CLS, SEP, UNK])

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text's WordPieces, without [CLS] and [SEP]."""
        return np.frombuffer(self._lines.encode(text)[0], np.uint32).tolist()

    def cut(self, text: Text, max_seq_length: int) -> tuple[Window, int]:
        """Returns [CLS] A [SEP], and B [SEP] if there is a B, and how many WordPieces were cut off.

        Source: google-research/bert extract_features.py and run_classifier.py: WordPieces are taken
          one by one from the end of the longer text, of B where both have the same length.

        Args:
          text: one text, or a pair.
          max_seq_length: most WordPieces of an input, special ones included.
        """
        ids_a, ids_b = self.encode(text.text_a), self.encode(text.text_b)
        if ids_b:
            kept_a, kept_b = _pair_lengths(len(ids_a), len(ids_b), max_seq_length - 3)
        else:
            kept_a, kept_b = min(len(ids_a), max_seq_length - 2), 0
        ids = [self.cls_id, *ids_a[:kept_a], self.sep_id]
        segments = [0] * len(ids)
        if kept_b:
            ids += [*ids_b[:kept_b], self.sep_id]
            segments += [1] * (kept_b + 1)
        lost = len(ids_a) + len(ids_b) - kept_a - kept_b
        return Window(ids, segments, 0, len(ids)), lost

    def windows(self, text: Text, max_seq_length: int, doc_stride: int) -> list[Window]:
        """Returns a single text as one input or several that overlap.

        Every WordPiece counts in one of them: where it stands farther from the edges. [CLS] counts
        in the first and [SEP] in the last.

        Args:
          text: without `text_b`.
          max_seq_length: most WordPieces of a window, special ones included.
          doc_stride: most WordPieces from the start of one window to that of the next. The last
            step is shorter where the last window would be shorter than the others.
        """
        ids = self.encode(text.text_a)
        room = max_seq_length - 2
        starts = [*range(0, len(ids) - room, doc_stride), max(len(ids) - room, 0)]
        cuts = [(start + following + room) // 2 for start, following in pairwise(starts)]
        windows = []
        for start, begin, end in zip(starts, [0, *cuts], [*cuts, len(ids)], strict=True):
            part = ids[start : start + room]
            windows.append(
                Window(
                    [self.cls_id, *part, self.sep_id],
                    [0] * (len(part) + 2),
                    begin - start + (start > 0),
                    end - start + 1 + (end == len(ids)),
                )
            )
        return windows


def _pair_lengths(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    """Returns how much is kept of A and B if the longer, or else B, loses one at a time."""
    if length_a + length_b <= room:
        return length_a, length_b
    half = room // 2
    if length_b <= half:
        return room - length_b, length_b
    if length_a <= room - half:
        return length_a, room - length_a
    return room - half, half
