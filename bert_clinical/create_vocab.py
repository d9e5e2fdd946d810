"""Learns a WordPiece vocabulary from pretraining text, for a model trained from scratch.

A run that goes on from BioBERT, or any released model, uses the vocabulary that came with it.
The same text and flags always give the same vocabulary.

Example:
  python -m bert_clinical.create_vocab --input_file=notes/discharge_summary.txt \\
    --output_file=vocab.txt --vocab_size=28996 --do_lower_case=false
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from data_prep.common import program
from data_prep.common.errors import UsageError, UserError
from data_prep.common.input_files import find_local_files
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "input_file", None,
        "Text files, globs or folders, comma-separated; gzip too.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string("output_file", None, "The vocabulary: an entry a line.", flag_values=values)
    flags.DEFINE_integer(
        "vocab_size", 30_000, "The most entries, special tokens included.", flag_values=values
    )
    flags.DEFINE_boolean(
        "do_lower_case", True,
        "Lower-case the text and strip accents. Give the same to create_pretraining_data.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "min_frequency", 2, "How often two pieces must meet to become one entry.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "limit_alphabet", 1000,
        "How many different characters are kept, the most frequent ones.",
        flag_values=values,
    )  # fmt: skip
    values.require("input_file", "output_file")


def main(values: ProgramFlags) -> None:
    """Checks the flags and the files, then learns the vocabulary."""
    for name in ("vocab_size", "min_frequency", "limit_alphabet"):
        if values[name].value < 1:
            raise UsageError(f"--{name} is {values[name].value}; it must be at least 1")
    create_vocab(
        input_files=find_local_files(values.input_file, "input_file"),
        output_file=values.output_file,
        vocab_size=values.vocab_size,
        do_lower_case=values.do_lower_case,
        min_frequency=values.min_frequency,
        limit_alphabet=values.limit_alphabet,
    )


def create_vocab(
    *,
    input_files: Sequence[Path],
    output_file: str | os.PathLike[str],
    vocab_size: int,
    do_lower_case: bool,
    min_frequency: int = 2,
    limit_alphabet: int = 1000,
) -> int:
    """Writes a vocabulary; returns its number of entries.

    Args:
      input_files: text, a sentence a line.
      output_file: appears when it is complete.
      vocab_size: the most entries.
      do_lower_case: for an uncased vocabulary.
      min_frequency: how often two pieces must meet to become one entry.
      limit_alphabet: how many different characters are kept.

    Raises:
      UserError: the text cannot be read or has no words, or the size is too small for it.
    """
    from bert_clinical.wordpieces.learning import count_words, learn_vocabulary
    from bert_clinical.wordpieces.vocabulary import case_mismatch
    from data_prep.common import atomic_files
    from data_prep.common.paths import prepare_file
    from data_prep.common.progress import Progress

    if Path(output_file).resolve() in {path.resolve() for path in input_files}:
        raise UserError(f"--output_file: {output_file} is an input too; choose another output")
    output = prepare_file(output_file, "output_file")
    # Opened first, so that an output that cannot be written is known before the work.
    with atomic_files.atomic_write(output, "w") as stream:
        size = sum(path.stat().st_size for path in input_files)
        with Progress("reading", "bytes", total=size, rate_unit="words") as progress:
            words = count_words(
                input_files=input_files,
                do_lower_case=do_lower_case,
                advance=lambda size, count: progress.advance(size, rate=count),
            )
        entries = learn_vocabulary(
            words,
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            limit_alphabet=limit_alphabet,
        )
        stream.writelines(f"{entry}\n" for entry in entries)
    mismatch = case_mismatch(entries, do_lower_case)
    if mismatch is not None:
        _log.warning(
            "%s: %s; make it and the examples with --do_lower_case=%s",
            output, mismatch, not do_lower_case,
        )  # fmt: skip
    _log.info("%s words, %s different", f"{words.total():,}", f"{len(words):,}")
    if len(entries) < vocab_size:
        _log.info("The text yields %s entries of %s", f"{len(entries):,}", f"{vocab_size:,}")
    _log.info("Vocabulary: %s (%s entries)", output, f"{len(entries):,}")
    return len(entries)


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
