"""manifest.json: binds the text files to what made them. Holds no text of a note."""

from __future__ import annotations

import enum
import importlib.metadata
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.canaries.record import with_canaries
from data_prep.common import atomic_files
from data_prep.common import files as beam_files
from data_prep.common.errors import UserError
from data_prep.common.json_files import parse_json_object, require_shape
from data_prep.common.own_files import MANIFEST_NAME, REPORT_NAME
from data_prep.common.same_run import SHAPE, require_same_settings
from data_prep.formatting.selection import NoteSelection
from data_prep.formatting.statistics import COUNTED, TextStatistics, merge_counts
from data_prep.formatting.text_files import TextFile

_log = logging.getLogger(__name__)

_PROGRAM = "data_prep.format_notes"

_SHAPE = {
    **SHAPE,
    "program": str,
    "outputs": [{"name": str, "size_bytes": int, "sha256": str}],
}
_IS_NAME = re.compile(r"[^/\0]{1,255}")


class Earlier(enum.Enum):
    """What an earlier run left in the output folder."""

    NONE = "no manifest"
    COMPLETE = "complete output of the same settings"
    DAMAGED = "output of the same settings, changed or removed since"


def versions(splitter: Mapping[str, str], deduplicate: str) -> dict[str, str]:
    """Returns the versions that the output follows from.

    Args:
      splitter: those of the sentence splitter.
      deduplicate: the flag.
    """
    found = {"bert-clinical": importlib.metadata.version("bert-clinical"), **splitter}
    if deduplicate == "near":
        found["datasketch"] = importlib.metadata.version("datasketch")
    return found


def find_earlier(folder: beam_files.Folder, settings: Mapping[str, Any]) -> Earlier:
    """Says what stands in the output folder.

    Raises:
      UserError: the output of other settings, or a manifest of something else.
    """
    if folder.size(MANIFEST_NAME) is None:
        return Earlier.NONE
    advice = "choose another --output_dir, or move the earlier output away"
    try:
        earlier = parse_json_object(folder.read(MANIFEST_NAME), MANIFEST_NAME)
        require_shape(earlier, _SHAPE, MANIFEST_NAME)
        files = [(f["name"], f["size_bytes"], f["sha256"]) for f in earlier["outputs"]]
        if earlier["program"] != _PROGRAM or not all(_IS_NAME.fullmatch(f[0]) for f in files):
            raise KeyError
    except (UserError, KeyError):
        raise UserError(
            f"{folder}/{MANIFEST_NAME} is not a manifest of format_notes; {advice}"
        ) from None
    require_same_settings(
        earlier, settings, f"{folder} holds the output of a run with other settings", advice
    )
    intact = all(
        folder.size(name) == size and folder.sha256(name) == sha256 for name, size, sha256 in files
    )
    return Earlier.COMPLETE if intact and folder.size(REPORT_NAME) else Earlier.DAMAGED


def write(
    output_dir: Path,
    *,
    settings: Mapping[str, Any],
    selection: NoteSelection,
    rows: Mapping[str, int],
    statistics: TextStatistics,
    files: Sequence[TextFile],
    canaries: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes the report and then the manifest, which marks the output as complete.

    Args:
      output_dir: where the text files stand.
      settings: flags, inputs and versions.
      selection: what was left out.
      rows: category → rows in the input.
      statistics: what was written.
      files: the text files.
      canaries: what is to be told of canaries in them, by name.
    """
    from data_prep.formatting import report as notes_report

    value = describe(
        settings=settings, selection=selection, rows=rows, statistics=statistics, files=files
    )
    notes_report.write(output_dir / REPORT_NAME, value, statistics)
    if canaries:
        value = with_canaries(value, canaries)
    atomic_files.write_json(output_dir / MANIFEST_NAME, value)


def describe(
    *,
    settings: Mapping[str, Any],
    selection: NoteSelection,
    rows: Mapping[str, int],
    statistics: TextStatistics,
    files: Sequence[TextFile],
) -> dict[str, Any]:
    """Returns the manifest; nothing in it depends on the time, the machine or the workers."""
    dropped = merge_counts([*selection.dropped.items(), *statistics.dropped.items()])
    nothing = dict.fromkeys(COUNTED, 0)
    categories = {}
    for category in selection.dropped:
        train, held_out = (
            {kind: statistics.counts.get((category, part), nothing)[kind] for kind in COUNTED}
            for part in (False, True)
        )
        categories[category] = {
            "rows": rows[category],
            **train,
            "held_out": held_out,
            "dropped": dropped[category],
        }
    reasons: Counter[str] = Counter()
    for counts in dropped.values():
        reasons.update(counts)
    return {
        "program": _PROGRAM,
        **settings,
        "counts": statistics.total(held_out=False),
        "held_out_counts": statistics.total(held_out=True),
        "dropped": dict(sorted(reasons.items())),
        "bad_rows": dict(sorted(selection.bad_rows.items())),
        "bytes_passed_over": selection.bytes_passed_over,
        "rows_of_other_categories": selection.other_rows,
        "categories": categories,
        "repeated_section_share": round(statistics.repeated_section_share(), 6),
        "outputs": [file._asdict() for file in files],
    }


def log_summary(
    output_dir: str,
    selection: NoteSelection,
    statistics: TextStatistics,
    files: Sequence[TextFile],
) -> None:
    """Says what was written and what was left out."""
    total = statistics.total()
    _log.info(
        "wrote %d notes, %d sections, %d sentences, %d words to %d file(s) in %s",
        *(total[kind] for kind in COUNTED), len(files), output_dir,
    )  # fmt: skip
    dropped = merge_counts([*selection.dropped.items(), *statistics.dropped.items()])
    for category, reasons in dropped.items():
        for reason, count in reasons.items():
            _log.info("left out %d notes of %r: %s", count, category, reason)
    for reason, count in sorted(selection.bad_rows.items()):
        _log.info("left out %d rows that cannot be read: %s", count, reason)
    _warn_of_empty_set(selection.held_out_fraction, statistics)
    if selection.bytes_passed_over:
        _log.info(
            "passed over %d bytes from rows on that cannot be read: up to the next place that is "
            "certainly the start of a row, or to the end of the file",
            selection.bytes_passed_over,
        )
    empty = [file.name for file in files if not file.notes]
    if empty:
        _log.info("%d of the files are empty: fewer notes than --num_shards", len(empty))


def _warn_of_empty_set(held_out_fraction: float, statistics: TextStatistics) -> None:
    """Says that there is nothing to train on, or nothing held out of it."""
    if not held_out_fraction:
        return
    for held_out, name, advice in (
        (False, "training", "lower it, or leave it out"),
        (True, "held-out", "raise it, or give more patients"),
    ):
        if not statistics.total(held_out=held_out)["notes"]:
            _log.warning(
                "--held_out_fraction=%s leaves the %s set empty; %s",
                held_out_fraction, name, advice,
            )  # fmt: skip
