"""The description that stands beside a TFRecord file, under its name and `.json`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bert_clinical.tfrecords.digests import Digests
from data_prep.common import atomic_files
from data_prep.common.json_files import ANY_NAME, parse_json_object, require_shape
from data_prep.common.own_files import SIDECAR_SUFFIX

_log = logging.getLogger(__name__)

_MOST_RANDOM = 0.95
"""Beyond it a share of random next sentences is no accident of short notes."""

_SHAPE = {
    "flags": {
        "vocab_file": str,
        "do_lower_case": bool,
        "do_whole_word_mask": bool,
        ANY_NAME: (int, float),
    },
    "vocabulary": {"sha256": str},
    "inputs": [{"sha256": str}],
    "counts": {ANY_NAME: int},
    "shares": {ANY_NAME: float},
    "sequence_lengths": {ANY_NAME: int},
}
_ADVICE = "remove it, or make the TFRecord file again"


def sidecar_path(tfrecord_path: str | os.PathLike[str]) -> Path:
    """Returns where the description of a TFRecord file stands: `<path>.json`."""
    path = Path(tfrecord_path)
    return path.with_name(path.name + SIDECAR_SUFFIX)


def write_sidecar(tfrecord_path: str | os.PathLike[str], description: Mapping[str, Any]) -> None:
    """Writes the description of a TFRecord file beside it, complete or not at all."""
    atomic_files.write_json(sidecar_path(tfrecord_path), description)


def read_sidecar(tfrecord_path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Returns the description that stands beside a TFRecord file, None where there is none.

    Raises:
      UserError: it is no JSON object, or one with values of other types.
    """
    path = sidecar_path(tfrecord_path)
    try:
        return parse_sidecar(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None


def believed_sidecar(
    tfrecord_path: str | os.PathLike[str], digests: Digests
) -> dict[str, Any] | None:
    """Returns the description of a TFRecord file; None where there is none, or of another file.

    Whether it belongs is told by size and SHA-256, not by names, since files are renamed with their
    sidecars. One that records neither is believed.

    Args:
      tfrecord_path: the file.
      digests: those that are known.

    Raises:
      UserError: it is not a JSON object.
    """
    description = read_sidecar(tfrecord_path)
    if description is None or _belongs(description.get("outputs"), Path(tfrecord_path), digests):
        return description
    _log.warning(
        "%s does not belong to the file beside it (by size or SHA-256) and is not believed; make "
        "the data again, or remove the sidecar",
        sidecar_path(tfrecord_path),
    )
    return None


def _belongs(outputs: object, path: Path, digests: Digests) -> bool:
    recorded = [
        (entry["size_bytes"], entry["sha256"])
        for entry in (outputs if isinstance(outputs, list) else ())
        if isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and "size_bytes" in entry
    ]
    if not recorded:
        return True
    size = path.stat().st_size
    possible = {sha256 for recorded_size, sha256 in recorded if recorded_size == size}
    return bool(possible) and digests.is_one_of(path, possible)


def parse_sidecar(content: bytes, path: str) -> dict[str, Any]:
    """Returns the description that a sidecar holds.

    Args:
      content: of the file.
      path: of the file, for the message.

    Raises:
      UserError: it is no JSON object, or one with values of other types.
    """
    value = parse_json_object(content, path, advice=_ADVICE)
    require_shape(value, _SHAPE, path, advice=_ADVICE)
    return value


def doubts(descriptions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns what makes examples poor for next sentence prediction, a line each; often nothing.

    Args:
      descriptions: of TFRecord files; files of one run share one.
    """
    distinct = {json.dumps(found, sort_keys=True): found for found in descriptions}
    counts = [found.get("counts") for found in distinct.values()]
    known = [
        count
        for count in counts
        if isinstance(count, Mapping)
        and all(isinstance(count.get(name), int) for name in ("documents", "instances"))
    ]
    found = []
    if known and all(count["documents"] == 1 for count in known):
        found.append(
            f"{'each input' if len(known) > 1 else 'the input'} holds one document only, from "
            "which the random next sentences come too; expected a blank line after every note"
        )
    instances = sum(count["instances"] for count in known if count["instances"] > 0)
    random_next = sum(count.get("random_next") or 0 for count in known)
    if instances and random_next > _MOST_RANDOM * instances:
        found.append(
            f"{100 * random_next / instances:.0f}% of the next sentences are random ones, about "
            "half expected; probably a blank line stands after every sentence, or a note is a "
            "single line: put a sentence on each line and a blank line after each note"
        )
    return found
