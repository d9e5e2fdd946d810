"""What a folder's manifest says of canaries in its text files: how many, never which."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_prep.canaries.canary import Canaries
from data_prep.common import files
from data_prep.common.errors import UserError
from data_prep.common.json_files import parse_json_object, read_json_object
from data_prep.common.own_files import MANIFEST_NAME

KEY = "canaries"
"""Of a manifest: file → `summary`. Of the sidecar of examples and the record of a training: the
summary of all texts."""

SENTENCES, SETS = "planted_sentences", "sets"


def summary(canaries: Canaries, sentences: int) -> dict[str, Any]:
    """Returns what everybody may know of the canaries in a text.

    Args:
      canaries: all that were drawn together, wherever they were planted.
      sentences: how many sentences the text got.
    """
    return {SENTENCES: sentences, SETS: {canaries.name: canaries.counts()}}


def combined(summaries: Iterable[Any]) -> dict[str, Any] | None:
    """Returns the summary of several texts, None if none of them holds canaries.

    Args:
      summaries: as they were read from JSON; what is none is passed over.
    """
    sentences = 0
    sets: dict[str, dict[str, int]] = {}
    for said in filter(_is_summary, summaries):
        sentences += said[SENTENCES]
        sets.update(said[SETS])
    return {SENTENCES: sentences, SETS: sets} if sets else None


def _is_summary(said: Any) -> bool:
    return (
        isinstance(said, dict)
        and isinstance(said.get(SENTENCES), int)
        and isinstance(said.get(SETS), dict)
        and all(
            isinstance(counts, dict) and all(isinstance(n, int) for n in counts.values())
            for counts in said[SETS].values()
        )
    )


def line(said: Mapping[str, Any]) -> str:
    """Returns a summary as a line to read."""
    sets = said[SETS].values()
    canaries = sum(n for counts in sets for count, n in counts.items() if count != "0")
    return f"{said[SENTENCES]:,} planted sentences of {canaries:,} canaries"


def of_texts(paths: Iterable[str]) -> dict[str, Any] | None:
    """Returns what manifests say of canaries in texts, None where nothing."""
    return combined(map(of_text, paths))


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
    return found if _is_summary(found) else None


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
      summaries: file → `summary`.
    """
    said = manifest.get(KEY)
    return {**manifest, KEY: {**(said if isinstance(said, dict) else {}), **summaries}}
