"""The flags with which the programs that use a model name it."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from bert_clinical.pretrained_model import (
    PretrainedModel,
    load_from_checkpoint,
    load_from_transformers,
)
from data_prep.program import ProgramFlags, UsageError, require_readable_file


def define_model_dir(values: ProgramFlags) -> None:
    """Defines the flag that names a model by its folder."""
    flags.DEFINE_string(
        "model_dir", None,
        "Transformers folder, or a folder with checkpoint, bert_config.json and vocab.txt.",
        flag_values=values,
    )  # fmt: skip


def define_checkpoint_flags(values: ProgramFlags) -> None:
    """Defines what a checkpoint's folder may leave open, without a value by default."""
    values.section("For a checkpoint, whose folder does not say it")
    flags.DEFINE_string(
        "bert_config_file", None, "Where it is not beside the checkpoint.", flag_values=values
    )
    flags.DEFINE_string(
        "vocab_file", None, "Where it is not beside the checkpoint.", flag_values=values
    )
    flags.DEFINE_bool(
        "do_lower_case", None, "Whether the model's texts were lower-cased.", flag_values=values
    )
    define_checkpoint_options(values)


def define_checkpoint_options(values: ProgramFlags) -> None:
    """Defines what no file of a checkpoint is sure to say."""
    flags.DEFINE_enum(
        "gelu", None, ["tanh", "erf"],
        "Form of GELU; what the folder records when not given, else tanh. BioBERT has erf.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_boolean(
        "check_case", True, "Refuse a --do_lower_case that the vocabulary's capitals contradict.",
        flag_values=values,
    )  # fmt: skip


def load_from_model_dir(
    values: ProgramFlags, *, do_lower_case: bool | None, heads: bool = False
) -> PretrainedModel:
    """Reads the model that `--model_dir` names.

    Args:
      values: with `model_dir`, `bert_config_file`, `vocab_file`, `gelu` and `check_case`.
      do_lower_case: None where the command line does not say it.
      heads: the pretraining heads too, where they are there.

    Raises:
      UserError: the folder holds no model, or not all of it.
    """
    folder = Path(values.model_dir)
    if (folder / "config.json").is_file():
        if values.gelu is not None:
            raise UsageError("--gelu belongs to a checkpoint; config.json of the folder says it")
        return load_from_transformers(folder, do_lower_case=do_lower_case, heads=heads)
    beside = folder if folder.is_dir() else folder.parent
    config_file = values.bert_config_file or beside / "bert_config.json"
    vocab_file = values.vocab_file or beside / "vocab.txt"
    if do_lower_case is None:
        raise UsageError(
            "--do_lower_case is needed for a checkpoint; False for a cased model such as BioBERT"
        )
    return load_from_checkpoint(
        init_checkpoint=str(folder),
        bert_config_file=require_readable_file(config_file, "bert_config_file"),
        vocab_file=require_readable_file(vocab_file, "vocab_file"),
        do_lower_case=do_lower_case,
        gelu=values.gelu,
        check_case=values.check_case,
        heads=heads,
    )
