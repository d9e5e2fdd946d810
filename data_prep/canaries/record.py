"""What a folder's manifest says of canaries in its text files: how many, never which."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.common import files
from data_prep.common.errors import UserError
from data_prep.common.json_files import parse_json_object, read_json_object

MANIFEST_NAME = "manifest.json"
KEY = "canaries"
"""Of a manifest: file → `Canaries.summary`. Of the sidecars of examples and the record of a
training: the same summary."""


def of_text(path: str) -> dict[str, Any] | None:
    """Returns what the manifest beside a text says of canaries in it, None where nothing.

    Args:
      path: of the text; one of another file system may have a scheme.
    """
    manifest = files.join(posixpath.dirname(path) or ".", MANIFEST_NAME)
    if files.size(manifest) is None:
        return None
    try:
        said = parse_json_object(files.read(manifest), manifest).get(KEY)
    except UserError:
        # Somebody else's file of that name; it says nothing of canaries.
        return None
    found = said.get(posixpath.basename(path)) if isinstance(said, dict) else None
    return found if isinstance(found, dict) else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns a folder's manifest, an empty one where there is none.

    Raises:
      UserError: it is damaged.
    """
    path = folder / MANIFEST_NAME
    return read_json_object(path, advice="move it away") if path.exists() else {}


def with_canaries(
    manifest: Mapping[str, Any], summaries: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns a manifest that says of files that they hold canaries.

    Args:
      manifest: of the folder.
      summaries: file → `Canaries.summary`.
    """
    said = manifest.get(KEY)
    return {**manifest, KEY: {**(said if isinstance(said, dict) else {}), **summaries}}
