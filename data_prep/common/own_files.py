"""What this project lays beside data: names that a glob or a folder of data passes over."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath

MANIFEST_NAME = "manifest.json"
REPORT_NAME = "data_report.html"
INDEX_NAME = "data_index.npz"
DIGESTS_NAME = "data_digests.json"
UNPACKED_FOLDER = "unpacked"
SIDECAR_SUFFIX = ".json"
ROW_IDS_SUFFIX = ".row_ids.csv"
PATIENTS_SUFFIX = ".patients"
"""Of the file beside a text that says for each document, in a line, whose it is."""

FORMAT_NOTES_FOLDER = "format_notes.work"
FORMAT_NOTES_BEAM_FOLDER = "format_notes.beam"
SHARDS_BEAM_FOLDER = "create_pretraining_data.beam"
AUDIT_NAME = "audit.json"
AUDIT_FOLDER = "audit_memorization.work"

CANARIES_PROGRAM = "data_prep.plant_canaries"
"""Says at the head of a file of canaries, whatever its name, what it is."""

REPORT_MARK = b'<meta name="generator" content="bert-clinical">'
"""Stands at the head of every HTML report, whatever its name."""

_NAMES = frozenset(
    {
        MANIFEST_NAME, REPORT_NAME, INDEX_NAME, DIGESTS_NAME, UNPACKED_FOLDER, FORMAT_NOTES_FOLDER,
        FORMAT_NOTES_BEAM_FOLDER, SHARDS_BEAM_FOLDER, "conversion.json", "eval_results.txt",
        AUDIT_NAME, AUDIT_FOLDER,
    }
)  # fmt: skip
# Partial files and folders, what a folder was replaced by, locks.
_UNFINISHED = re.compile(r".+\.(partial|[0-9a-f]{8}\.replaced|lock)", re.DOTALL)
_SIDECAR_OF_TFRECORDS = re.compile(r".+\.tfrecord[^.]*(\.gz)?\.json", re.DOTALL)
_VOCABULARY = re.compile(rb"\[PAD\]\r?\n")


def is_own(path: str, head: bytes, exists: Callable[[str], bool]) -> bool:
    """Tells whether a file or folder is none of the data that it lies beside.

    Args:
      path: of the file or folder.
      head: the file's first bytes, none of a folder.
      exists: whether there is a file of that path.
    """
    name = PurePath(path).name
    if name in _NAMES or _UNFINISHED.fullmatch(name):
        return True
    if name.endswith((ROW_IDS_SUFFIX, PATIENTS_SUFFIX)):
        return True
    if name.endswith(SIDECAR_SUFFIX) and (
        _SIDECAR_OF_TFRECORDS.fullmatch(name) or exists(path.removesuffix(SIDECAR_SUFFIX))
    ):
        return True
    if head.startswith(b"{") and f'"program": "{CANARIES_PROGRAM}"'.encode() in head:
        return True
    return REPORT_MARK in head or _VOCABULARY.match(head) is not None
