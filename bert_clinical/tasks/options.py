"""The settings of a fine-tuning run; knows no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bert_clinical.weights.model_flags import NamedModel
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
    adam_bias_correction: bool = setting(
        True,
        "Correct the bias of Adam's moments, without which short runs learn worse; Google's "
        "programs and the paper do without.",
    )
    pad_to_max_seq_length: bool = False


@dataclass(frozen=True)
class TaskRequest:
    """What a fine-tuning program is asked to do, beside what is particular to its task.

    Attributes:
      task_name: of the program's tasks.
      output_dir: where model, results and predictions go.
      options: how to train.
      model: the model to begin with, its `model_dir` a transformers folder; with `do_train` false
        the fine-tuned one, None for the one in `output_dir`.
      do_train: train.
      do_eval: measure on the dev data.
      do_predict: predict the test data.
      eval_batch_size: examples computed at once on the dev data.
      predict_batch_size: examples computed at once on the test data.
      save_checkpoints_steps: updates from one checkpoint to the next.
      keep_finished: leave an output as it is that holds the same run's results.
    """

    task_name: str
    output_dir: Path
    options: FineTuningOptions
    model: NamedModel
    do_train: bool
    do_eval: bool
    do_predict: bool
    eval_batch_size: int
    predict_batch_size: int
    save_checkpoints_steps: int
    keep_finished: bool = False
