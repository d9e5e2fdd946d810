"""What a pretraining example holds, and how an instance lies in memory until it becomes one."""

from __future__ import annotations

from typing import NamedTuple

INSTANCE_LENGTH = 0
INSTANCE_LENGTH_A = 1
INSTANCE_IS_RANDOM_NEXT = 2
INSTANCE_MASKED = 3
INSTANCE_IDS = 4
"""Where the parts of an instance's row stand.

The length of the sequence, the length of `[CLS]` A `[SEP]`, whether B is from elsewhere, and how
many WordPieces are masked are one number each. From `INSTANCE_IDS` on stand `max_seq_length` ids,
then the masked positions and their original ids, `max_predictions` of each; only as many as the
lengths say mean something.
"""


def instance_width(max_seq_length: int, max_predictions: int) -> int:
    """Returns how many numbers the row of an instance has."""
    return INSTANCE_IDS + max_seq_length + 2 * max_predictions


class Feature(NamedTuple):
    """One feature of an example: `dtype` is "int64" or "float32", `length` its number of values."""

    dtype: str
    length: int


def pretraining_features(max_seq_length: int, max_predictions_per_seq: int) -> dict[str, Feature]:
    """Returns what every pretraining example holds, by name.

    Args:
      max_seq_length: WordPieces in a sequence, padding included.
      max_predictions_per_seq: masked positions in a sequence, padding included.
    """
    return {
        "input_ids": Feature("int64", max_seq_length),
        "input_mask": Feature("int64", max_seq_length),
        "segment_ids": Feature("int64", max_seq_length),
        "masked_lm_positions": Feature("int64", max_predictions_per_seq),
        "masked_lm_ids": Feature("int64", max_predictions_per_seq),
        "masked_lm_weights": Feature("float32", max_predictions_per_seq),
        "next_sentence_labels": Feature("int64", 1),
    }
