"""The settings of a fine-tuning run; knows no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.common.settings_flags import setting


@dataclass(frozen=True)
class FineTuningOptions:
    """The settings of a run, named as the flags.

    Attributes:
      pad_to_max_seq_length: pad every batch to the full length, not to its longest input.
    """

    max_seq_length: int = setting(
        128, "Most WordPieces of an input, special tokens included.", minimum=3
    )
    train_batch_size: int = setting(32, "Examples of an update.", minimum=1)
    learning_rate: float = setting(5e-5, "The learning rate that warm-up leads to.", minimum=0)
    num_train_epochs: float = setting(3.0, "Passes over the training data.", minimum=0)
    warmup_proportion: float = setting(
        0.1, "Share of the updates during which the rate rises.", minimum=0, maximum=1
    )
    random_seed: int = setting(
        12345, "Of the new layer, dropout and the order of the data.", minimum=0
    )
    skip_padding: bool = setting(
        True, "Compute the real tokens alone; padding has no part in any loss or gradient."
    )
    pad_to_max_seq_length: bool = False
