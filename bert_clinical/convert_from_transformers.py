"""Converts a BERT of transformers to a name-based TensorFlow checkpoint to start training from.

Reads config.json, the weights (model.safetensors, or pytorch_model.bin where PyTorch is installed)
and the vocabulary. Writes bert_model.ckpt, bert_config.json and vocab.txt as Google's releases
have them, and says which --gelu and --do_lower_case belong to the model.

Example:
  python -m bert_clinical.convert_from_transformers --transformers_dir=bert-base-cased \\
    --output_dir=bert_base_cased_checkpoint
"""

from __future__ import annotations

import logging
from pathlib import Path

from absl import flags

from bert_clinical.conversion.convert import FROM_TRANSFORMERS, convert_from_transformers
from data_prep.common import program
from data_prep.common.errors import UserError
from data_prep.common.output_folder import require_replaceable
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags on `values`."""
    flags.DEFINE_string(
        "transformers_dir", None, "Folder with config.json, weights and vocabulary.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "output_dir", None, "New folder; an earlier output of this program is replaced.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "init_missing_pooler", False,
        "Start a pooler afresh for a model saved without one, as BertForMaskedLM is.",
        flag_values=values,
    )  # fmt: skip
    values.require("transformers_dir", "output_dir")


def main(values: ProgramFlags) -> None:
    """Checks the folders, then converts."""
    transformers_dir, output_dir = Path(values.transformers_dir), Path(values.output_dir)
    if not transformers_dir.is_dir():
        raise UserError(
            f"--transformers_dir: {transformers_dir} is no folder; expected one with config.json"
        )
    if output_dir.resolve() == transformers_dir.resolve():
        raise UserError("--output_dir is the same folder as --transformers_dir; choose another")
    require_replaceable(output_dir, FROM_TRANSFORMERS)
    convert_from_transformers(
        transformers_dir=transformers_dir,
        output_dir=output_dir,
        init_missing_pooler=values.init_missing_pooler,
    )
    _log.info("Wrote %s.", output_dir)


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
