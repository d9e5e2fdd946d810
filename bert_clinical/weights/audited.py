"""The audit of a model, and what a model card says of it.

`audit_memorization` writes `audit.json`; a card tells of an audit of the very weights it is about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.weights.provenance import as_object
from data_prep.common.atomic_files import atomic_write
from data_prep.common.own_files import AUDIT_NAME

AUDIT_FILE = AUDIT_NAME
AUDIT_FOLDER = "audit"
"""Where a recipe puts the audit: beside the checkpoint's folder, or in it."""

CARD_FILE = "README.md"
_TITLE = "## Memorisation"
_NEXT = "## Who may have it"
_LIMITS = (
    "From an audit of these weights with `audit_memorization`. Exposure is how far a planted",
    "secret stands out among all of its kind; chance gives 1.4 bits. An audit can show that a",
    "model gives away what it was trained on, and never that it does not.",
)
_NOT_LEARNT = (
    "Nothing shows that this model has learnt from its notes, and what has learnt nothing has",
    "memorised nothing: these figures are no merit.",
)
_NOT_AUDITED = ("bert/pooler/", "cls/seq_relationship/")


def weights_digest(weights: Mapping[str, np.ndarray]) -> str:
    """Returns what the weights that an audit computes with are known again by.

    Args:
      weights: float32 arrays by Google's names, of whatever file.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        if not name.startswith(_NOT_AUDITED):
            digest.update(f"{name}\0".encode())
            digest.update(np.ascontiguousarray(weights[name], np.float32).data)
    return digest.hexdigest()


def find_audit(folder: Path) -> dict[str, Any]:
    """Returns the audit that lies where one of a checkpoint may, an empty dict where none does.

    Args:
      folder: of the checkpoint.
    """
    for place in (folder, folder / AUDIT_FOLDER, folder.absolute().parent / AUDIT_FOLDER):
        try:
            value = json.loads((place / AUDIT_FILE).read_bytes().decode())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}


def is_of(audit: Mapping[str, Any], digest: str) -> bool:
    """Tells whether an audit is one of the weights with this digest."""
    model = as_object(as_object(audit.get("inputs")).get("model"))
    return model.get("weights_sha256") == digest


def card_section(audit: Mapping[str, Any]) -> list[str]:
    """Returns the lines of a card's section, none for an audit that holds no figures."""
    rows = [*_exposure_rows(as_object(audit.get("exposure"))), *_membership_rows(audit)]
    if not rows:
        return []
    body = [f"| {name} | {value} |" for name, value in rows]
    lines = [_TITLE, "", "| | |", "|---|---|", *body, "", *_LIMITS, ""]
    if as_object(audit.get("learnt")).get("has_learnt") is not True:
        lines += [*_NOT_LEARNT, ""]
    return lines


def _exposure_rows(exposure: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for count, found in exposure.items():
        numbers = _numbers(as_object(found), "mean_bits", "extracted")
        if numbers and count.isdecimal():
            mean, extracted, low, high = numbers
            name = "Controls, never planted" if count == "0" else f"Canaries planted {count} ×"
            yield (
                name,
                f"exposure {mean:.1f} bits ({low:.1f} to {high:.1f}), "
                f"{100 * extracted:.0f}% extracted",
            )


def _membership_rows(audit: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    membership = as_object(audit.get("membership"))
    by_patient = as_object(membership.get("by_patient"))
    for name, said in (("notes", membership), ("patients", by_patient)):
        if numbers := _numbers(said, "auc"):
            value, low, high = numbers
            yield (
                f"Trained-on {name} against held-out ones",
                f"AUC {value:.3f} ({low:.3f} to {high:.3f})",
            )


def _numbers(said: Mapping[str, Any], *names: str) -> list[float]:
    """Returns figures and their interval, nothing if one of them is no number."""
    interval = said.get("interval")
    found = [said.get(name) for name in names]
    found += interval if isinstance(interval, list) and len(interval) == 2 else [None]
    numbers = [value for value in found if isinstance(value, int | float)]
    return numbers if len(numbers) == len(found) else []


def update_card(folder: Path, audit: Mapping[str, Any]) -> bool:
    """Puts the section into the card of a transformers folder; tells whether there is one.

    A section of an earlier audit is replaced.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return False
    lines = path.read_text(encoding="utf-8").split("\n")
    if _TITLE in lines:
        start = lines.index(_TITLE)
        ends = (n for n in range(start + 1, len(lines)) if lines[n].startswith("## "))
        del lines[start : next(ends, len(lines))]
    place = lines.index(_NEXT) if _NEXT in lines else len(lines)
    lines[place:place] = card_section(audit)
    with atomic_write(path, "w") as stream:
        stream.write("\n".join(lines))
    return True
