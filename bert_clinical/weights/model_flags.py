"""The flags with which the programs that use a model name it."""

from __future__ import annotations

import logging
from pathlib import Path

from absl import flags

from bert_clinical.weights.pretrained import (
    PretrainedModel,
    load_from_checkpoint,
    load_from_transformers,
)
from bert_clinical.weights.provenance import recorded_gelu
from data_prep.common.errors import UsageError, UserError
from data_prep.common.paths import require_readable_file
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


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
        return load_from_transformers(
            folder, do_lower_case=do_lower_case, check_case=values.check_case, heads=heads
        )
    beside = folder if folder.is_dir() else folder.parent
    config_file = values.bert_config_file or beside / "bert_config.json"
    vocab_file = values.vocab_file or beside / "vocab.txt"
    if do_lower_case is None:
        raise UsageError(
            "--do_lower_case is needed for a checkpoint; False for a cased model such as BioBERT"
        )
    return _load(
        values,
        init_checkpoint=str(folder),
        bert_config_file=config_file,
        vocab_file=vocab_file,
        do_lower_case=do_lower_case,
        heads=heads,
    )


def load_reference(values: ProgramFlags, model: PretrainedModel) -> PretrainedModel:
    """Reads the model that `--reference_dir` names, which another model's training began with.

    What a checkpoint's folder does not say is as in the model: config, vocabulary, casing, GELU.

    Args:
      values: with `reference_dir` and the flags of `load_from_model_dir`.
      model: that other model.

    Raises:
      UserError: the folder holds no model, or not all of it.
    """
    folder = Path(values.reference_dir)
    if (folder / "config.json").is_file():
        return load_from_transformers(folder, check_case=values.check_case, heads=True)
    beside = folder if folder.is_dir() else folder.parent
    own = Path(values.model_dir) if Path(values.model_dir).is_dir() else Path(model.source).parent
    files = {}
    for flag, name in (("bert_config_file", "bert_config.json"), ("vocab_file", "vocab.txt")):
        there = beside / name
        files[flag] = there if there.is_file() else values[flag].value or own / name
    return load_from_checkpoint(
        init_checkpoint=values.reference_dir,
        bert_config_file=require_readable_file(files["bert_config_file"], "bert_config_file"),
        vocab_file=require_readable_file(files["vocab_file"], "vocab_file"),
        do_lower_case=model.do_lower_case,
        gelu=recorded[0] if (recorded := recorded_gelu(beside)) else model.gelu,
        check_case=values.check_case,
        heads=True,
    )


def load_named_checkpoint(values: ProgramFlags) -> PretrainedModel:
    """Reads the checkpoint that `init_checkpoint`, `bert_config_file` and `vocab_file` name.

    Raises:
      UserError: a file is missing, or they do not belong together.
    """
    return _load(
        values,
        init_checkpoint=values.init_checkpoint,
        bert_config_file=values.bert_config_file,
        vocab_file=values.vocab_file,
        do_lower_case=values.do_lower_case,
    )


def _load(
    values: ProgramFlags,
    *,
    init_checkpoint: str,
    bert_config_file: str | Path,
    vocab_file: str | Path,
    do_lower_case: bool,
    heads: bool = False,
) -> PretrainedModel:
    """Reads a checkpoint under the flags `gelu` and `check_case`."""
    return load_from_checkpoint(
        init_checkpoint=init_checkpoint,
        bert_config_file=require_readable_file(bert_config_file, "bert_config_file"),
        vocab_file=require_readable_file(vocab_file, "vocab_file"),
        do_lower_case=do_lower_case,
        gelu=values.gelu,
        check_case=values.check_case,
        heads=heads,
    )


def given_case(values: ProgramFlags) -> bool | None:
    """Returns `do_lower_case` if it stands on the command line, else None."""
    return values.do_lower_case if values["do_lower_case"].present else None


def require_positions(values: ProgramFlags, model: PretrainedModel) -> None:
    """Raises `UserError` if `max_seq_length` is more than the model has positions for.

    Warns where it is more than the model was trained on.
    """
    if values.max_seq_length > model.config.max_position_embeddings:
        raise UserError(
            f"--max_seq_length is {values.max_seq_length}, but the model takes "
            f"{model.config.max_position_embeddings} positions at most"
        )
    if model.trained_length is not None and values.max_seq_length > model.trained_length:
        _log.warning(
            "--max_seq_length is %d, but %s was trained on sequences of at most %d WordPieces; "
            "its positions beyond that are as they were before that training",
            values.max_seq_length, model.source, model.trained_length,
        )  # fmt: skip
