"""Converts a name-based TensorFlow checkpoint to a transformers folder.

Reads checkpoints of run_pretraining, of Google's programs and of BioBERT as they ship; optimizer
slots and step counters are left out by name, and whatever is not understood ends the program. The
folder holds config.json, model.safetensors, the tokenizer's files and a model card. Where PyTorch
and transformers are installed, the result is compared with the TensorFlow model before it appears;
the same flags and --verify_only make the comparison alone.

Example:
  python -m bert_clinical.convert_to_transformers --init_checkpoint=model \\
    --bert_config_file=biobert/bert_config.json --vocab_file=biobert/vocab.txt \\
    --do_lower_case=false --gelu=erf --output_dir=clinical_bert/transformers
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from absl import flags

from bert_clinical.conversion.convert import (
    TO_TRANSFORMERS,
    convert_to_transformers,
    read_conversion,
)
from bert_clinical.nn.config import BertConfig
from bert_clinical.weights import pytorch_process
from bert_clinical.weights.checkpoint import resolve_checkpoint
from bert_clinical.weights.provenance import (
    best_checkpoint,
    require_recorded_gelu,
    require_recorded_vocabulary,
)
from bert_clinical.weights.safetensors_files import DTYPES, parse_size
from bert_clinical.wordpieces.vocabulary import (
    read_vocabulary,
    require_case_of_release,
    require_matching_case,
)
from data_prep.common import program
from data_prep.common.errors import UsageError, UserError
from data_prep.common.output_folder import require_replaceable
from data_prep.common.paths import require_readable_file
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags on `values`."""
    string = functools.partial(flags.DEFINE_string, flag_values=values)
    boolean = functools.partial(flags.DEFINE_boolean, flag_values=values)
    choice = functools.partial(flags.DEFINE_enum, flag_values=values)
    values.section("What to convert")
    string(
        "init_checkpoint", None, "Checkpoint: its prefix, its .index file or its folder.",
    )  # fmt: skip
    boolean(
        "best", False,
        "Of the run in the folder --init_checkpoint, the checkpoint that was the best on held-out "
        "data (run_pretraining --eval_every) in place of the latest.",
    )  # fmt: skip
    string("bert_config_file", None, "The model's bert_config.json.")
    string("vocab_file", None, "The vocabulary that the model was trained with.")
    boolean(
        "do_lower_case", True,
        "Whether the model's texts were lower-cased: False for a cased model such as BioBERT.",
    )  # fmt: skip
    choice(
        "gelu", "tanh", ["tanh", "erf"],
        "Form of GELU that the model was trained with: tanh in Google's code since February 2019, "
        "erf before and in BioBERT. It becomes hidden_act gelu_new or gelu.",
    )  # fmt: skip
    values.section("What to write")
    string(
        "output_dir", None, "New folder; an earlier output of this program is replaced.",
    )  # fmt: skip
    choice("dtype", "float32", list(DTYPES), "Type to store the weights in.")
    string("max_shard_size", "50GB", "Most weights in a file, as 5GB or 200MB.")
    values.section("Checks")
    boolean(
        "allow_missing_heads", False,
        "Convert a checkpoint that lacks the masked LM or the next sentence head.",
    )  # fmt: skip
    boolean(
        "verify", None,
        "Compare the written folder in transformers with the TensorFlow model, outputs and "
        "tokenizer. Done where PyTorch and transformers are installed unless told.",
    )  # fmt: skip
    boolean(
        "verify_only", False,
        "Compare the folder that stands at --output_dir already, and write nothing.",
    )  # fmt: skip
    boolean(
        "check_case", True,
        "Refuse a --do_lower_case that the vocabulary's capitals contradict, and one or a "
        "--vocab_file that the model's examples were not made with.",
    )  # fmt: skip
    values.require("init_checkpoint", "bert_config_file", "vocab_file", "output_dir")


def main(values: ProgramFlags) -> None:
    """Checks the flags and the small files, then converts."""
    from bert_clinical.conversion import model_card, verify

    if values.verify_only and values.verify is False:
        raise UsageError("--verify_only and --noverify contradict each other; give one of them")
    max_shard_bytes = parse_size(values.max_shard_size)
    output_dir = Path(values.output_dir)
    if not values.verify_only:
        require_replaceable(output_dir, TO_TRANSFORMERS)
    if values.verify or values.verify_only:
        verify.require_available(output_dir)
    config = BertConfig.from_json_file(
        require_readable_file(values.bert_config_file, "bert_config_file")
    )
    vocab_file = require_readable_file(values.vocab_file, "vocab_file")
    tokens = read_vocabulary(vocab_file, config.vocab_size)
    if values.check_case:
        require_matching_case(tokens, values.do_lower_case, vocab_file)
        require_case_of_release(values.do_lower_case, values.init_checkpoint)
    prefix = _checkpoint(values)
    if config.activation_name() == "gelu":
        require_recorded_gelu(Path(prefix).parent, values.gelu)
    if values.check_case:
        require_recorded_vocabulary(Path(prefix).parent, vocab_file, values.do_lower_case)
    if values.verify_only:
        written = read_conversion(
            prefix=prefix,
            config=config,
            tokens=tokens,
            do_lower_case=values.do_lower_case,
            gelu=values.gelu,
            output_dir=output_dir,
        )
        verify.check_conversion(written, otherwise="do not use the folder")
        _log.info("%s gives what %s gives.", output_dir, prefix)
        return
    is_checked = pytorch_process.is_available() if values.verify is None else values.verify
    steps = [model_card.write_model_card]
    if is_checked:
        steps.append(verify.check_conversion)
    else:
        _log.info("Not compared with the TensorFlow model (--verify does that).")
    written = convert_to_transformers(
        prefix=prefix,
        config=config,
        tokens=tokens,
        do_lower_case=values.do_lower_case,
        gelu=values.gelu,
        output_dir=output_dir,
        allow_missing_heads=values.allow_missing_heads,
        dtype=values.dtype,
        max_shard_bytes=max_shard_bytes,
        before_commit=steps,
    )
    _log.info("Wrote %s: %s parameters.", output_dir, f"{written.parameters:,}")


def _checkpoint(values: ProgramFlags) -> str:
    """Returns the prefix of the checkpoint to convert."""
    if not values.best:
        return resolve_checkpoint(values.init_checkpoint)
    folder = Path(values.init_checkpoint)
    if not folder.is_dir():
        raise UserError(f"--best: --init_checkpoint={folder} is no folder; give that of the run")
    return best_checkpoint(folder)


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
