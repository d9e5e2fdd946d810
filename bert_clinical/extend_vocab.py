"""Gives a model entries for the words of one's own notes, to go on training with.

Chooses the whole words and the continuations of words (##) that save most WordPieces on
pretraining text. A word that stands with fewer than --min_documents patients, or in fewer documents
where nobody says whose they are, plays no part. Writes vocab.txt, bert_config.json and
bert_model.ckpt with a row for each new entry and every other weight as it was, new_entries.csv, and
extend_report.html, which tells what the entries save and cost. Old entries keep their ids.

Examples are then made with the new vocab.txt, and training begins with the new checkpoint.

Example:
  python -m bert_clinical.extend_vocab --init_checkpoint=biobert \\
    --bert_config_file=biobert/bert_config.json --vocab_file=biobert/vocab.txt \\
    --do_lower_case=False --input_file='text/*.txt' --num_new_entries=1000 \\
    --output_dir=biobert_extended
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from absl import flags

from bert_clinical.extension.settings import EXTEND_VOCAB, ExtensionSettings
from bert_clinical.weights import model_flags
from bert_clinical.weights.provenance import require_recorded_vocabulary
from data_prep.common import program, settings_flags
from data_prep.common.errors import UsageError, UserError
from data_prep.common.input_files import find_local_files
from data_prep.common.output_folder import require_replaceable
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)

_CHECKPOINT_FLAGS = ("init_checkpoint", "bert_config_file", "vocab_file")


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags on `values`."""

    def string(name: str, text: str) -> None:
        flags.DEFINE_string(name, None, text, flag_values=values)

    def switch(name: str, text: str) -> None:
        flags.DEFINE_boolean(name, True, text, flag_values=values)

    values.section("The model")
    string("init_checkpoint", "Checkpoint: its prefix, its .index file or its folder.")
    string("bert_config_file", "The model's bert_config.json.")
    string("vocab_file", "The vocabulary that the model was trained with.")
    switch(
        "do_lower_case",
        "Whether the model's texts are lower-cased: False for a cased model such as BioBERT. A "
        "transformers folder says it itself.",
    )
    string("transformers_dir", "A transformers folder, in place of checkpoint and its files.")
    switch(
        "check_case",
        "Refuse a --do_lower_case that the vocabulary's capitals contradict, and one or a "
        "--vocab_file that the model's examples were not made with.",
    )
    values.section("The text")
    string(
        "input_file",
        "Pretraining text that the model is to be trained on: paths, globs or folders, "
        "comma-separated; gzip too. Held-out text is better left out.",
    )
    values.section("The entries")
    settings_flags.define(values, ExtensionSettings)
    values.section("Output")
    string("output_dir", "New folder; an earlier output of this program is replaced.")
    values.require("input_file", "output_dir")


def main(values: ProgramFlags) -> None:
    """Checks the flags and the folders, then extends."""
    given = [name for name in _CHECKPOINT_FLAGS if values[name].value is not None]
    if values.transformers_dir is None and len(given) < len(_CHECKPOINT_FLAGS):
        raise UsageError(
            "expected --init_checkpoint, --bert_config_file and --vocab_file, or --transformers_dir"
        )
    if values.transformers_dir is not None and given:
        raise UsageError(f"--transformers_dir and --{given[0]} both name a model; give one of them")
    named = model_flags.read(values)
    if values.transformers_dir is not None:
        folder = Path(values.transformers_dir)
        if not (folder / "config.json").is_file():
            raise UserError(
                f"--transformers_dir: {folder} holds no config.json; expected a folder of "
                "transformers, or --init_checkpoint, --bert_config_file and --vocab_file"
            )
        named = dataclasses.replace(named, model_dir=values.transformers_dir)
    output_dir = Path(values.output_dir)
    model_path = Path(values.transformers_dir or values.init_checkpoint).resolve()
    if output_dir.resolve() in (model_path, model_path.parent):
        raise UsageError("--output_dir is the folder of the model; choose another")
    require_replaceable(output_dir, EXTEND_VOCAB)
    input_files = find_local_files(values.input_file, "input_file", once=True)
    from bert_clinical.extension.run import extend_vocab

    model = named.load(heads=True)
    if values.transformers_dir is None and values.check_case:
        folder = Path(model.source).parent
        require_recorded_vocabulary(folder, Path(values.vocab_file), values.do_lower_case)
    extend_vocab(
        model=model,
        input_files=input_files,
        settings=settings_flags.read(values, ExtensionSettings),
        output_dir=output_dir,
    )
    _log.info(
        "Wrote %s: make examples with its vocab.txt and --do_lower_case=%s, and train with its "
        "bert_config.json and --init_checkpoint=%s", output_dir, model.do_lower_case, output_dir,
    )  # fmt: skip


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
