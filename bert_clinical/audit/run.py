"""Audits a model as `audit_memorization` does: canaries, notes, report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bert_clinical import __version__
from bert_clinical.audit import exposure, membership, report, unfinished, verdict
from bert_clinical.audit.asking import Asked, ask
from bert_clinical.audit.membership import Group
from bert_clinical.audit.settings import AuditSettings
from bert_clinical.audit.texts import Notes, read_notes
from bert_clinical.audit.unfinished import Unfinished
from bert_clinical.nn.tensorflow import tf
from bert_clinical.weights.audited import AUDIT_FILE, weights_digest
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.canaries.canary import Canaries
from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.paths import make_folder

_log = logging.getLogger(__name__)

PROGRAM = "bert_clinical.audit_memorization"
REPORT_FILE = "audit_report.html"


@dataclass(frozen=True)
class Evidence:
    """What a model is held against.

    Attributes:
      canaries: those of its text; None for none.
      member_files: text that it was trained on; empty for none.
      non_member_files: text that it never saw.
      recorded_sets: the sets of canaries that the training's record names; None without a record.
    """

    canaries: Canaries | None
    member_files: Sequence[Path]
    non_member_files: Sequence[Path]
    recorded_sets: Sequence[str] | None


def audit_memorization(
    *,
    model: PretrainedModel,
    reference: PretrainedModel | None,
    evidence: Evidence,
    settings: AuditSettings,
    output_dir: Path,
) -> dict[str, Any]:
    """Audits a model and writes `audit.json` and `audit_report.html`.

    Args:
      model: with its masked LM head.
      reference: what its training began with, of the same vocabulary.
      evidence: canaries, notes, or both.
      settings: what else the figures follow from.
      output_dir: made if it does not exist.

    Returns:
      What `audit.json` says.

    Raises:
      UserError: model, canaries and texts do not fit one another, or the folder holds another
        audit.
    """
    _require_fitting(model, reference, settings)
    make_folder(output_dir)
    with atomic_files.held(output_dir, "audit_memorization"):
        origin = _origin(model, reference, evidence, settings)
        _require_two_sides(origin["inputs"])
        earlier = _earlier(output_dir, origin)
        if earlier is not None:
            unfinished.remove(output_dir)
            _log.info("%s is complete already; nothing to do", output_dir / AUDIT_FILE)
            return earlier
        work = Unfinished(output_dir, origin)
        groups = _read(evidence, TextEncoder(model.tokenizer()), settings)
        asked = [
            ask(name, who, evidence.canaries, groups, settings, work)
            for name, who in (("model", model), ("reference", reference))
            if who is not None
        ]
        audit = _conclusion(origin, asked, evidence, groups, settings)
        report.write(output_dir / REPORT_FILE, audit)
        atomic_files.write_json(output_dir / AUDIT_FILE, audit)
        unfinished.remove(output_dir)
    return audit


def _require_fitting(
    model: PretrainedModel, reference: PretrainedModel | None, settings: AuditSettings
) -> None:
    if reference is not None and list(reference.tokens) != list(model.tokens):
        raise UserError(
            f"{reference.source}: the reference has another vocabulary than {model.source}; give "
            "the checkpoint that its training began with"
        )
    for who in filter(None, (model, reference)):
        who.require_masked_lm_head()
        if settings.max_seq_length > who.config.max_position_embeddings:
            raise UserError(
                f"--max_seq_length is {settings.max_seq_length}, but {who.source} takes "
                f"{who.config.max_position_embeddings} positions at most"
            )


def _origin(
    model: PretrainedModel,
    reference: PretrainedModel | None,
    evidence: Evidence,
    settings: AuditSettings,
) -> dict[str, Any]:
    """Returns what the audit follows from; begins the JSON file, and holds no path."""

    def described(who: PretrainedModel | None) -> dict[str, Any] | None:
        if who is None:
            return None
        return {
            "name": Path(who.source).name,
            "gelu": who.gelu,
            "do_lower_case": who.do_lower_case,
            "weights_sha256": weights_digest(who.weights),
        }

    canaries, recorded = evidence.canaries, evidence.recorded_sets
    flags = asdict(settings)
    # It changes nothing but the time.
    del flags["batch_size"]
    return {
        "program": PROGRAM,
        "versions": {"bert-clinical": __version__, "tensorflow": tf.__version__},
        "flags": flags,
        "inputs": {
            "model": described(model),
            "reference": described(reference),
            "canaries": None if canaries is None else canaries.name,
            "canaries_in_record": (
                None if canaries is None or recorded is None else canaries.name in recorded
            ),
            "members": list(map(atomic_files.fingerprint, evidence.member_files)),
            "non_members": list(map(atomic_files.fingerprint, evidence.non_member_files)),
        },
    }


def _require_two_sides(inputs: Mapping[str, Any]) -> None:
    """Raises `UserError` if a file is given as trained on and as held out, by what it holds."""
    members = {file["sha256"]: file["name"] for file in inputs["members"]}
    for file in inputs["non_members"]:
        if file["sha256"] in members:
            raise UserError(
                f"--non_member_file: {file['name']} holds the text of --member_file's "
                f"{members[file['sha256']]}; expected notes that the model was not trained on"
            )


def _earlier(output_dir: Path, origin: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the same audit where it is there whole.

    Raises:
      UserError: another one is there.
    """
    path = output_dir / AUDIT_FILE
    if not path.exists():
        return None
    found = read_json_object(path, advice="remove it to audit again")
    if any(found.get(name) != value for name, value in origin.items()):
        raise UserError(
            f"{path} is the audit of another model, with other files or other flags; choose "
            "another --output_dir, or move it away"
        )
    return found if (output_dir / REPORT_FILE).exists() else None


def _read(evidence: Evidence, encoder: TextEncoder, settings: AuditSettings) -> list[Notes | None]:
    """Returns members and others."""
    planted = {canary.text for canary in evidence.canaries.canaries} if evidence.canaries else ()
    found: list[Notes | None] = []
    for files in (evidence.member_files, evidence.non_member_files):
        notes = None
        if files:
            notes = read_notes(files, encoder, planted, settings.max_notes, settings.random_seed)
        found.append(notes)
    return found


def _conclusion(
    origin: Mapping[str, Any],
    asked: Sequence[Asked],
    evidence: Evidence,
    groups: Sequence[Notes | None],
    settings: AuditSettings,
) -> dict[str, Any]:
    seed = settings.random_seed
    model, *others = asked
    reference = others[0] if others else None
    canaries = evidence.canaries.canaries if evidence.canaries else ()

    def exposures(of: Asked | None) -> dict[str, Any] | None:
        if of is None or not canaries:
            return None
        return exposure.by_repetitions(canaries, of.ranks, seed)

    audit = {
        **origin,
        "exposure": exposures(model),
        "reference_exposure": exposures(reference),
        "canaries": [
            {
                "number": canary.number,
                "repetitions": canary.repetitions,
                "secrets_told_apart": model.told_apart[canary.number],
                **{
                    name: {
                        kind: {**rank._asdict(), "bits": rank.exposure}
                        for kind, rank in of.ranks[canary.number].items()
                    }
                    for name, of in (("model", model), ("reference", reference))
                    if of is not None
                },
            }
            for canary in canaries
        ],
        "membership": _membership(model, reference, groups, seed),
        "learnt": _learnt(model, reference, groups),
        "on_both_sides": _on_both_sides(groups),
    }
    audit["warnings"] = verdict.warnings(audit)
    audit["verdict"] = verdict.sentences(audit)
    return audit


def _on_both_sides(groups: Sequence[Notes | None]) -> dict[str, int] | None:
    """Returns how many notes and patients are among those trained on and among those held out."""
    members, others = groups
    if members is None or others is None:
        return None
    return {
        "notes": len(members.digests & others.digests),
        "of_notes": len(others.digests),
        "patients": len(members.patients & others.patients),
    }


def _membership(
    model: Asked, reference: Asked | None, groups: Sequence[Notes | None], seed: int
) -> dict[str, Any] | None:
    found = []
    by_patient = True
    for place, notes in enumerate(groups):
        sums = model.sums[place]
        if notes is None or sums is None:
            return None
        found.append(Group(notes.notes, sums, reference and reference.sums[place]))
        by_patient = by_patient and notes.has_patients
    return membership.measure(*found, by_patient=by_patient, seed=seed)


def _learnt(
    model: Asked, reference: Asked | None, groups: Sequence[Notes | None]
) -> dict[str, Any] | None:
    """Returns how often the model is right on notes that it never saw."""
    held_out, sums = groups[1], model.sums[1]
    if held_out is None or sums is None:
        return None
    guess = membership.most_frequent_share(held_out.notes)
    before = reference.sums[1] if reference is not None else None
    return {
        "accuracy": sums.accuracy(),
        "one_guess": guess,
        "has_learnt": sums.accuracy() > verdict.LEARNT_TIMES * guess,
        "accuracy_of_reference": None if before is None else before.accuracy(),
    }
