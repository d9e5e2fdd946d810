"""Writes a model as a SavedModel that takes text: tokenizer and encoder in one graph.

Its signature serving_default takes `text` and gives `pooled_output`, `sequence_output`,
`input_ids`, `input_mask` and `num_wordpieces`. It is loaded by TensorFlow with tensorflow-text, or
by TensorFlow Serving from --output_dir, where each --version is a folder of its own.

Example:
  python -m bert_clinical.export_saved_model --model_dir=clinical_bert/transformers \\
    --output_dir=served/clinical_bert
"""

from __future__ import annotations

import logging
from pathlib import Path

from absl import flags

from bert_clinical.weights import model_flags
from data_prep.common import program
from data_prep.common.errors import UserError
from data_prep.common.output_folder import require_replaceable
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)

_PROGRAM = "export_saved_model"


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags on `values`."""
    model_flags.define_model_dir(values)
    flags.DEFINE_string(
        "output_dir", None, "Folder of the model's versions; made where there is none.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "version", 1,
        "Name of the folder in --output_dir; an earlier output of this program there is replaced.",
        lower_bound=1, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "max_seq_length", 128,
        "Most WordPieces of a sequence, special ones included. Longer texts are cut, which "
        "num_wordpieces shows.",
        lower_bound=3, flag_values=values,
    )  # fmt: skip
    model_flags.define_checkpoint_flags(values)
    values.require("model_dir", "output_dir")


def main(values: ProgramFlags) -> None:
    """Checks the flags, reads the model and writes it."""
    output_dir = Path(values.output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir: {output_dir} is a file; a folder was expected")
    folder = output_dir / str(values.version)
    require_replaceable(folder, _PROGRAM)
    model = model_flags.read(values).load()
    model_flags.require_positions(values.max_seq_length, model)
    from bert_clinical.inference.saved_model import export_saved_model

    export_saved_model(
        model=model,
        output_dir=folder,
        max_seq_length=values.max_seq_length,
        program=_PROGRAM,
    )
    if not model.has_pooler():
        _log.info("%s: has no pooler; the SavedModel gives no pooled_output.", model.source)
    _log.info("Wrote %s.", folder)


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
