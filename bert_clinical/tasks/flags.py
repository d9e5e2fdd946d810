"""The flags of the fine-tuning programs, and what can be checked without any file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from bert_clinical.tasks.options import FineTuningOptions, TaskRequest
from bert_clinical.weights import model_flags
from data_prep.common import settings_flags
from data_prep.common.errors import UsageError
from data_prep.common.program import ProgramFlags

_CHECKPOINT_FLAGS = ("bert_config_file", "vocab_file", "init_checkpoint")


@dataclass(frozen=True)
class Defaults:
    """The defaults in which the originals of the programs differ."""

    do_lower_case: bool
    do_train: bool
    do_predict: bool
    num_train_epochs: float


def define_common_flags(values: ProgramFlags, defaults: Defaults, tasks: Sequence[str]) -> None:
    """Defines the flags that both originals have."""

    def integer(name: str, default: int, text: str, minimum: int = 1) -> None:
        flags.DEFINE_integer(name, default, text, lower_bound=minimum, flag_values=values)

    def string(name: str, text: str) -> None:
        flags.DEFINE_string(name, None, text, flag_values=values)

    def switch(name: str, default: bool | None, text: str) -> None:
        flags.DEFINE_boolean(name, default, text, flag_values=values)

    values.section("As in the original's program")
    string("data_dir", "Folder of the data. Required.")
    string("bert_config_file", "The model's bert_config.json.")
    string("task_name", f"One of {', '.join(tasks)}. Required.")
    string("vocab_file", "The vocabulary that the model was trained with.")
    string(
        "output_dir",
        "Where model, results and predictions go, all at once when they are complete: a new "
        "folder, or an earlier output. Required.",
    )
    string("init_checkpoint", "Pretrained weights: a prefix, an .index file or a folder.")
    switch(
        "do_lower_case", defaults.do_lower_case,
        "Lower-case the text: False for a cased model such as BioBERT. A transformers folder "
        "says it itself.",
    )  # fmt: skip
    settings_flags.define(values, FineTuningOptions, "max_seq_length")
    switch("do_train", defaults.do_train, "Train.")
    switch("do_eval", False, "Evaluate on the dev data, while training after each epoch.")
    switch("do_predict", defaults.do_predict, "Predict the labels of the test data.")
    settings_flags.define(values, FineTuningOptions, "train_batch_size")
    integer("eval_batch_size", 8, "Examples of a batch of evaluation.")
    integer("predict_batch_size", 8, "Examples of a batch of prediction.")
    settings_flags.define(
        values, FineTuningOptions, "learning_rate", "num_train_epochs", "warmup_proportion",
        num_train_epochs=defaults.num_train_epochs,
    )  # fmt: skip
    integer(
        "save_checkpoints_steps", 1000,
        "Updates from one checkpoint to the next. An interrupted run goes on from the last.",
    )  # fmt: skip
    integer("iterations_per_loop", 1000, "Without effect here.")
    settings_flags.define_tpu_flags(values)
    values.require("data_dir", "task_name", "output_dir")


def define_further_flags(values: ProgramFlags) -> None:
    """Defines the flags that are ours."""
    values.section("Further flags")
    flags.DEFINE_string(
        "transformers_dir", None,
        "A transformers folder in place of checkpoint, config and vocabulary: a pretrained model "
        "to train, or with --nodo_train a fine-tuned one.",
        flag_values=values,
    )  # fmt: skip
    model_flags.define_checkpoint_options(values)
    settings_flags.define(
        values, FineTuningOptions, "adam_bias_correction", "random_seed", "skip_padding"
    )
    flags.DEFINE_boolean(
        "keep_finished", False,
        "Leave an output as it is that holds the results of the same run, by its model, data and "
        "settings, and refuse one that holds another's, in place of training again.",
        flag_values=values,
    )  # fmt: skip


def read(values: ProgramFlags, tasks: Sequence[str], **others: Any) -> TaskRequest:
    """Returns what the flags ask for, checked as far as it can be without any file.

    Args:
      values: the parsed flags.
      tasks: that the program knows.
      **others: settings of training that are no flags, or that other flags decide.

    Raises:
      UsageError: flags that cannot go together, or a value that cannot be.
    """
    settings_flags.refuse_tpu_flags(values)
    task = values.task_name.lower()
    if task not in tasks:
        raise UsageError(f"--task_name={values.task_name}; expected one of {', '.join(tasks)}")
    if not (values.do_train or values.do_eval or values.do_predict):
        raise UsageError(
            "none of --do_train, --do_eval and --do_predict is given; give at least one of them"
        )
    if not 0 < values.learning_rate < float("inf"):
        raise UsageError(f"--learning_rate is {values.learning_rate}; expected a number above 0")
    if not 0 < values.num_train_epochs < float("inf"):
        raise UsageError(
            f"--num_train_epochs is {values.num_train_epochs}; expected a number above 0"
        )
    given = [name for name in (*_CHECKPOINT_FLAGS, "gelu") if values[name].value is not None]
    if values.transformers_dir and given:
        raise UsageError(
            f"--transformers_dir and --{given[0]} are given; expected either a transformers "
            "folder or a checkpoint with config and vocabulary"
        )
    if values.do_train and not values.transformers_dir:
        missing = [name for name in _CHECKPOINT_FLAGS if values[name].value is None]
        if missing:
            raise UsageError(
                f"--{missing[0]} is missing; training starts from --init_checkpoint, "
                "--bert_config_file and --vocab_file, or from --transformers_dir"
            )
    if values.keep_finished and not values.do_train:
        raise UsageError("--keep_finished is about a training; give --do_train as well")
    options = settings_flags.read(values, FineTuningOptions)
    model = model_flags.read(values)
    return TaskRequest(
        task_name=task,
        output_dir=Path(values.output_dir),
        options=dataclasses.replace(options, **others),
        model=dataclasses.replace(model, model_dir=values.transformers_dir),
        do_train=values.do_train,
        do_eval=values.do_eval,
        do_predict=values.do_predict,
        eval_batch_size=values.eval_batch_size,
        predict_batch_size=values.predict_batch_size,
        save_checkpoints_steps=values.save_checkpoints_steps,
        keep_finished=values.keep_finished,
    )
