"""Tells what a model has memorised of its training text, before it leaves the house.

Looks for the canaries of plant_canaries: how far each planted secret stands out among all of its
kind (exposure, in bits), by how often it was planted, against controls that never were. Compares
notes that the model was trained on with notes of held-out patients: how well they can be told
apart by what the training has added to the model that it began with. Writes audit.json and
audit_report.html, which quote neither a secret nor a note, and a section of the model card.

An audit can show that a model gives away its notes. It cannot show that a model does not.

Run again after an interruption with the same flags, it goes on from where it was.

Example:
  python -m bert_clinical.audit_memorization --init_checkpoint=model \\
    --bert_config_file=biobert/bert_config.json --vocab_file=biobert/vocab.txt \\
    --do_lower_case=False --reference_dir=biobert --canaries_file=canaries.json \\
    --member_file=text/discharge_summary.txt \\
    --non_member_file=text/discharge_summary.held_out.txt --output_dir=audit
"""

from __future__ import annotations

import logging
from pathlib import Path

from absl import flags

from bert_clinical.audit.settings import AuditSettings
from bert_clinical.weights import audited, model_flags
from bert_clinical.weights.provenance import recorded_canaries
from data_prep.canaries.canary import read_canaries
from data_prep.common import program, settings_flags
from data_prep.common.errors import UsageError
from data_prep.common.input_files import find_local_files
from data_prep.common.paths import require_readable_file
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags on `values`."""

    def string(name: str, text: str) -> None:
        flags.DEFINE_string(name, None, text, flag_values=values)

    values.section("The model")
    model_flags.define_model_dir(values)
    string("init_checkpoint", "In place of --model_dir: a prefix, an .index file or a folder.")
    string(
        "reference_dir",
        "The model that training began with, likewise a folder of either kind; its vocabulary must "
        "be the model's. Without it notes are compared by the model alone, a weaker test.",
    )
    values.section("What it is held against: canaries, notes, or both")
    string("canaries_file", "The canaries of the text that the model was trained on.")
    string("member_file", "Text that the model was trained on: paths or globs, comma-separated.")
    string(
        "non_member_file",
        "Text of held-out patients, likewise. Beside a text, <text>.patients may say whose each "
        "document is, a line for each.",
    )
    values.section("Output and extent")
    string("output_dir", "For audit.json and audit_report.html; made if it does not exist.")
    settings_flags.define(values, AuditSettings)
    model_flags.define_checkpoint_flags(values)
    values.require("output_dir")


def main(values: ProgramFlags) -> None:
    """Checks the flags and the small files, then audits."""
    if (values.model_dir is None) == (values.init_checkpoint is None):
        raise UsageError("expected one of --model_dir and --init_checkpoint, and not both")
    if values.member_file is not None and values.non_member_file is None:
        raise UsageError(
            "--member_file is given without --non_member_file; expected held-out notes to compare "
            "with"
        )
    if values.canaries_file is None and values.member_file is None:
        raise UsageError(
            "nothing to hold the model against; give --canaries_file, or --member_file and "
            "--non_member_file"
        )
    canaries = None
    if values.canaries_file is not None:
        canaries = read_canaries(require_readable_file(values.canaries_file, "canaries_file"))
    members, others = (
        find_local_files(values[name].value, name) if values[name].value is not None else []
        for name in ("member_file", "non_member_file")
    )
    from bert_clinical.audit.run import Evidence, audit_memorization

    values.model_dir = values.model_dir or values.init_checkpoint
    named = model_flags.read(values)
    model = named.load(heads=True)
    reference = None
    if values.reference_dir is not None:
        reference = named.load_reference(values.reference_dir, model)
    audit = audit_memorization(
        model=model,
        reference=reference,
        evidence=Evidence(canaries, members, others, recorded_canaries(Path(model.source))),
        settings=settings_flags.read(values, AuditSettings),
        output_dir=Path(values.output_dir),
    )
    if audited.update_card(Path(values.model_dir), audit):
        _log.info("%s: tells of the audit", Path(values.model_dir) / audited.CARD_FILE)
    for line in audit["warnings"]:
        _log.warning("%s", line)
    for line in audit["verdict"]:
        _log.info("%s", line)
    _log.info("Report: %s", Path(values.output_dir) / "audit_report.html")


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
