"""The flags with which the programs that use a model name it, and what they name."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
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


@dataclass(frozen=True)
class NamedModel:
    """A model as a program's flags of the same names name it.

    Attributes:
      model_dir: a transformers folder, or one with checkpoint, config and vocabulary.
      init_checkpoint: without `model_dir`, a checkpoint, with the two files that follow.
      bert_config_file: where it is not in `model_dir`.
      vocab_file: where it is not in `model_dir`.
      do_lower_case: None where the command line does not say it.
      gelu: None where the command line does not say it.
      check_case: refuse a casing that the vocabulary contradicts.
    """

    model_dir: str | None = None
    init_checkpoint: str | None = None
    bert_config_file: str | None = None
    vocab_file: str | None = None
    do_lower_case: bool | None = None
    gelu: str | None = None
    check_case: bool = True

    def load(self, *, heads: bool = False) -> PretrainedModel:
        """Reads the model.

        Args:
          heads: the pretraining heads too, where they are there.

        Raises:
          UserError: a file is missing, or they do not belong together.
        """
        if self.model_dir is None:
            return self._load_checkpoint(heads)
        folder = Path(self.model_dir)
        if (folder / "config.json").is_file():
            if self.gelu is not None:
                raise UsageError(
                    "--gelu belongs to a checkpoint; config.json of the folder says it"
                )
            return load_from_transformers(
                folder, do_lower_case=self.do_lower_case, check_case=self.check_case, heads=heads
            )
        beside = folder if folder.is_dir() else folder.parent
        named = dataclasses.replace(
            self,
            init_checkpoint=str(folder),
            bert_config_file=self.bert_config_file or str(beside / "bert_config.json"),
            vocab_file=self.vocab_file or str(beside / "vocab.txt"),
        )
        return named._load_checkpoint(heads)

    def load_reference(self, reference_dir: str, model: PretrainedModel) -> PretrainedModel:
        """Reads, with its heads, the model that this one's training began with.

        What a checkpoint's folder does not say is as in this model: config, vocabulary, casing,
        GELU.

        Args:
          reference_dir: a folder of either kind.
          model: what `load` returned.

        Raises:
          UserError: the folder holds no model, or not all of it.
        """
        folder = Path(reference_dir)
        if (folder / "config.json").is_file():
            return load_from_transformers(folder, check_case=self.check_case, heads=True)
        beside = folder if folder.is_dir() else folder.parent
        own = Path(self.model_dir or "")
        own = own if self.model_dir and own.is_dir() else Path(model.source).parent

        def file(name: str, given: str | None) -> str:
            there = beside / name
            return str(there if there.is_file() else given or own / name)

        recorded = recorded_gelu(beside)
        named = dataclasses.replace(
            self,
            init_checkpoint=reference_dir,
            bert_config_file=file("bert_config.json", self.bert_config_file),
            vocab_file=file("vocab.txt", self.vocab_file),
            do_lower_case=model.do_lower_case,
            gelu=recorded[0] if recorded else model.gelu,
        )
        return named._load_checkpoint(heads=True)

    def _load_checkpoint(self, heads: bool) -> PretrainedModel:
        if self.do_lower_case is None:
            raise UsageError(
                "--do_lower_case is needed for a checkpoint; False for a cased model such as "
                "BioBERT"
            )
        return load_from_checkpoint(
            init_checkpoint=str(self.init_checkpoint),
            bert_config_file=require_readable_file(str(self.bert_config_file), "bert_config_file"),
            vocab_file=require_readable_file(str(self.vocab_file), "vocab_file"),
            do_lower_case=self.do_lower_case,
            gelu=self.gelu,
            check_case=self.check_case,
            heads=heads,
        )


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
        "Form of GELU that the checkpoint was trained with; what its folder records when not "
        "given, else tanh. BioBERT has erf.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_boolean(
        "check_case", True, "Refuse a --do_lower_case that the vocabulary's capitals contradict.",
        flag_values=values,
    )  # fmt: skip


def read(values: ProgramFlags) -> NamedModel:
    """Returns the model that the flags name; --do_lower_case counts for a folder only if given."""
    named = {
        field.name: values[field.name].value
        for field in dataclasses.fields(NamedModel)
        if field.name in values
    }
    if named.get("init_checkpoint") is None and not values["do_lower_case"].present:
        named["do_lower_case"] = None
    return NamedModel(**named)


def require_positions(max_seq_length: int, model: PretrainedModel) -> None:
    """Raises `UserError` if --max_seq_length is more than the model has positions for.

    Warns where it is more than the model was trained on.
    """
    if max_seq_length > model.config.max_position_embeddings:
        raise UserError(
            f"--max_seq_length is {max_seq_length}, but the model takes "
            f"{model.config.max_position_embeddings} positions at most"
        )
    if model.trained_length is not None and max_seq_length > model.trained_length:
        _log.warning(
            "--max_seq_length is %d, but %s was trained on sequences of at most %d WordPieces; "
            "its positions beyond that are as they were before that training",
            max_seq_length, model.source, model.trained_length,
        )  # fmt: skip
