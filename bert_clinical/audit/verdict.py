"""What an audit says in words: what was shown, what could have been shown, and what could not.

No sentence clears a model: what an audit has not found may be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bert_clinical.audit.secret_scores import IN_TURN, TOGETHER

LEARNT_TIMES = 1.5
"""A model has learnt something if it is right this many times as often as the best one guess."""

_MOST_ON_BOTH_SIDES = 0.01
"""Share of the held-out notes. Some short ones read alike in any archive."""


def sentences(audit: Mapping[str, Any]) -> list[str]:
    """Returns the verdict on an audit.

    Args:
      audit: with `exposure` and `membership`, None where it was not measured.
    """
    said = []
    if audit["exposure"] is not None:
        said += _of_exposure(audit["exposure"])
    else:
        said.append("No canaries were looked for, so nothing is said of single facts.")
    if audit["membership"] is not None:
        said += _of_membership(audit["membership"])
    else:
        said.append("No notes were compared, so nothing is said of whose notes the model knows.")
    said.append(
        "This audit can show that a model gives away what it was trained on. It cannot show that a "
        "model gives away nothing: other attacks, other secrets and facts that stand in the notes "
        "more often or in more ways were not tried."
    )
    return said


def _of_exposure(exposure: Mapping[str, Mapping[str, Any]]) -> list[str]:
    planted = {count: found for count, found in exposure.items() if count != "0"}
    known = [count for count, found in planted.items() if shows_memory(found)]
    unknown = [count for count in planted if count not in known]
    said = []
    if known:
        worst = max(planted.values(), key=lambda found: max(_extracted(found)))
        said.append(
            f"The model has memorised secrets that it read {_times(known[0])}: the smallest "
            f"repetition count at which canaries stand out, of {', '.join(planted)}. Up to "
            f"{100 * max(_extracted(worst)):.0f}% of the secrets of a count can be extracted "
            "outright."
        )
    else:
        said.append(
            f"At none of the repetition counts {', '.join(planted)} do the planted secrets stand "
            "out from chance."
        )
    for count in unknown:
        chance, canaries = planted[count]["chance"], planted[count]["canaries"]
        said.append(
            f"Read {_times(count)}: not shown. {canaries} canaries show it only if their mean "
            f"exposure is above {chance['limit']:.1f} bits (chance gives {chance['mean']:.1f}), as "
            f"when {chance['known_outright']} of {canaries} secrets are known outright. A rarer or "
            "weaker memory would not have been seen."
        )
    return said


def shows_memory(found: Mapping[str, Any]) -> bool:
    """Tells whether canaries of a repetition count stand out, by either score."""
    return bool(found["above_chance"] or found[TOGETHER]["above_chance"])


def _extracted(found: Mapping[str, Any]) -> tuple[float, float]:
    return found["extracted"], found[TOGETHER]["extracted"]


def _times(count: str) -> str:
    return "once" if count == "1" else f"{count} times"


def _of_membership(membership: Mapping[str, Any]) -> list[str]:
    said = []
    for name, found in (("notes", membership), ("patients", membership["by_patient"])):
        if found is None:
            said.append(
                "By patient: not measured, as no file says whose the notes are; the intervals are "
                "too narrow where patients have several."
            )
            continue
        low, high = found["interval"]
        figure = f"AUC {found['auc']:.3f}, 95% interval {low:.3f} to {high:.3f}"
        if low > 0.5:
            said.append(f"Trained-on {name} can be told from held-out ones: {figure}.")
        else:
            said.append(
                f"Trained-on {name} were not told from held-out ones: {figure}. So many "
                f"({found['members']:,} and {found['non_members']:,}) show an AUC from about "
                f"{found['smallest_visible_auc']:.2f} on."
            )
    if not membership["with_reference"]:
        said.append(
            "Without --reference_dir the notes were compared by the model alone, which is a much "
            "weaker test: easy notes look trained-on."
        )
    return said


def warnings(audit: Mapping[str, Any]) -> list[str]:
    """Returns what speaks against reading the figures as they stand."""
    said = []
    learnt = audit["learnt"]
    if learnt is None:
        said.append(
            "Nothing says whether the model has learnt anything, as --non_member_file is not "
            "given: a model that has not memorises nothing either."
        )
    elif not learnt["has_learnt"]:
        said.append(
            f"The model has learnt next to nothing: on held-out notes it gets "
            f"{100 * learnt['accuracy']:.1f}% of the masked WordPieces right, and always guessing "
            f"the most frequent one {100 * learnt['one_guess']:.1f}%. If such a model seems to "
            "have memorised little, that is no merit; train it further and audit it again."
        )
    said += [
        f"The controls, which were never planted, stand out in the {which}: expect an error in "
        "what was given (the canaries of another text, a secret that the notes hold)."
        for which, found in (
            ("model", audit["exposure"]), ("reference", audit["reference_exposure"]),
        )
        if found is not None and "0" in found and shows_memory(found["0"])
    ]  # fmt: skip
    reference = audit["reference_exposure"] or {}
    if any(shows_memory(found) for count, found in reference.items() if count != "0"):
        said.append(
            "The reference knows planted secrets too; expected the model that training began with."
        )
    membership = audit["membership"]
    if membership is not None and membership["non_members"] < 1000:
        said.append(
            f"With {membership['non_members']:,} held-out notes a false positive rate of 0.1% "
            "means none of them."
        )
    said += _of_both_sides(audit["on_both_sides"])
    if audit["inputs"]["canaries_in_record"] is False:
        said.append(
            "The record of the training does not say that its text holds these canaries; expected "
            "the canaries of the text that the model was trained on."
        )
    alike = sum(2 * canary["secrets_told_apart"] < _of(canary) for canary in audit["canaries"])
    if alike:
        said.append(
            f"For {alike} canaries the vocabulary spells more than half of the secrets alike; they "
            "can show little."
        )
    return said


def _of_both_sides(found: Mapping[str, int] | None) -> list[str]:
    if found is None:
        return []
    said = []
    if found["notes"] > _MOST_ON_BOTH_SIDES * found["of_notes"]:
        said.append(f"{found['notes']:,} different notes of {found['of_notes']:,}")
    if found["patients"]:
        said.append(f"{found['patients']:,} patients")
    if not said:
        return []
    return [
        f"Of those held out, {' and '.join(said)} are among those trained on too, which makes both "
        "sides alike: expected notes of other patients, as format_notes --held_out_fraction keeps."
    ]


def _of(canary: Mapping[str, Any]) -> int:
    return int(canary["model"][IN_TURN]["of"])
