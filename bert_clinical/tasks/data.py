"""Examples of a task as numbers, and their batches; knows no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep.common.contents import text_lines
from data_prep.common.errors import UserError

NO_LABEL = -1
"""In place of a label's number where nothing is to be learned."""

MOST_NAMES = 1000
"""Labels of a task."""

_LONGEST_NAME = 100
_NAMES_THAT_NEED_NOT_RECUR = 10


@dataclass(frozen=True)
class Encoded:
    """One input of the model.

    Attributes:
      input_ids: of its WordPieces, [CLS] and [SEP] included.
      segment_ids: 0 for the first text, 1 for the second.
      label_ids: one number for a text, or one for each WordPiece.
    """

    input_ids: Sequence[int] = field(repr=False)
    segment_ids: Sequence[int] = field(repr=False)
    label_ids: Sequence[int]

    def __len__(self) -> int:
        return len(self.input_ids)


def batch_of(
    examples: Sequence[Encoded], *, per_token: bool, length: int | None = None, pad_label: int = -1
) -> dict[str, np.ndarray]:
    """Returns the features of a batch, int32.

    Args:
      examples: the inputs.
      per_token: whether labels belong to WordPieces.
      length: to pad to, S; the longest input's when None.
      pad_label: of padding, where labels belong to WordPieces.

    Returns:
      input_ids, input_mask, segment_ids [B, S], and label_ids [B] or [B, S].
    """
    length = length or max(map(len, examples))
    shape = (len(examples), length)
    batch = {name: np.zeros(shape, np.int32) for name in ("input_ids", "input_mask", "segment_ids")}
    labels = np.full(shape if per_token else shape[:1], pad_label, np.int32)
    for row, example in enumerate(examples):
        size = len(example)
        batch["input_ids"][row, :size] = example.input_ids
        batch["input_mask"][row, :size] = 1
        batch["segment_ids"][row, :size] = example.segment_ids
        if per_token:
            labels[row, :size] = example.label_ids
        else:
            labels[row] = example.label_ids[0]
    return {**batch, "label_ids": labels}


def training_order(count: int, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Yields the examples' numbers for each step: one shuffled pass over all after the other.

    A batch may hold the end of one pass and the beginning of the next, as Google's do.

    Args:
      count: number of examples.
      batch_size: examples of a step.
      steps: how many.
      seed: of the shuffling; each pass has its own order.
    """
    passes = math.ceil(steps * batch_size / count)
    waiting = np.zeros(0, np.int64)
    done = 0
    for index in range(passes):
        order = np.random.default_rng([seed, index]).permutation(count)
        waiting = np.concatenate([waiting, order])
        while len(waiting) >= batch_size and done < steps:
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]
            done += 1


def find_data_file(data_dir: Path, names: Sequence[str], what: str) -> Path:
    """Returns the one file of these names that a folder holds.

    Args:
      data_dir: the folder.
      names: possible names.
      what: which part of the data it is, for errors.

    Raises:
      UserError: there is none, or more than one.
    """
    if not data_dir.is_dir():
        raise UserError(f"--data_dir: {data_dir} is no folder; expected the folder of the data")
    found = [name for name in names if (data_dir / name).is_file()]
    if len(found) != 1:
        state = f"holds {' and '.join(found)}" if found else "holds no such file"
        raise UserError(
            f"--data_dir: {data_dir} {state}; expected one file of {what} data, named "
            f"{' or '.join(names)}"
        )
    return data_dir / found[0]


def require_names(names: Collection[str], uses: int, where: str, what: str) -> None:
    """Checks that labels are names: they are shown, in scores, results and a model's settings.

    Args:
      names: the different ones.
      uses: how often any of them was found.
      where: they were found.
      what: they are.

    Raises:
      UserError: there are so many or so long ones that they could be texts.
    """
    if len(names) > MOST_NAMES:
        raise UserError(
            f"{where} holds {len(names):,} {what}, expected no more than {MOST_NAMES:,}"
        )
    if max(map(len, names)) > _LONGEST_NAME:
        raise UserError(
            f"{where} holds {what} of more than {_LONGEST_NAME} characters; expected short names, "
            "not texts"
        )
    if len(names) > _NAMES_THAT_NEED_NOT_RECUR and 2 * len(names) > uses:
        raise UserError(
            f"{where} holds {len(names):,} {what} in {uses:,} places; expected names that recur, "
            "not texts"
        )


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields number, from 1, and text of each line, without its end.

    Raises:
      UserError: a line is not UTF-8.
    """
    for number, line in enumerate(text_lines(str(path)), 1):
        text = line.removeprefix("\ufeff") if number == 1 else line
        yield number, text.rstrip("\r\n")
