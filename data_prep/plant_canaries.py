"""Plants made-up sentences with random secrets in pretraining text, to audit a model with later.

The output is the same text with sentences such as "The retired carpenter can be reached at
extension 4719 during the day.", each as often as --repetitions says, in documents that the seed
chooses. Train on it, then have audit_memorization look for the secrets: what the model knows of
them, it may know of patients. --canaries_file alone knows them, and only its owner can read it;
manifest.json says that the text holds canaries, and so do the examples and the training's record.

Example:
  python -m data_prep.plant_canaries --input_file=text/discharge_summary.txt \\
    --output_file=planted/discharge_summary.txt --canaries_file=canaries.json --num_canaries=20
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from data_prep.canaries.canary import CanarySettings
from data_prep.canaries.run import plant_canaries
from data_prep.common import program, settings_flags
from data_prep.common.errors import UserError
from data_prep.common.input_files import find_local_files
from data_prep.common.program import ProgramFlags


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags."""
    flags.DEFINE_string(
        "input_file", None,
        "Pretraining text: a sentence a line, a blank line between documents.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "output_file", None, "The text with the canaries; manifest.json beside it says so.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "canaries_file", None, "JSON file of the canaries, for audit_memorization; keep it secret.",
        flag_values=values,
    )  # fmt: skip
    settings_flags.define(values, CanarySettings)
    values.require("input_file", "output_file", "canaries_file")


def main(values: ProgramFlags) -> None:
    """Runs the program on parsed flags."""
    plant_canaries(
        input_file=_one_text(values.input_file),
        output_file=Path(values.output_file),
        canaries_file=Path(values.canaries_file),
        settings=settings_flags.read(values, CanarySettings),
    )


def _one_text(patterns: str) -> Path:
    """Returns the text that `--input_file` names.

    Raises:
      UserError: it names none, or several.
    """
    found = find_local_files(patterns, "input_file")
    if len(found) > 1:
        raise UserError(
            f"--input_file names {len(found)} files; expected one: plant in each by itself with "
            "another --random_seed, or let format_notes do it (--plant_canaries)"
        )
    return found[0]


def cli() -> None:
    """The program's entry point."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
