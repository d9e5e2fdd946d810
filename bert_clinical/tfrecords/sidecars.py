"""The description that stands beside a TFRecord file, under its name and `.json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.common import atomic_files
from data_prep.common.json_files import parse_json_object


def sidecar_path(tfrecord_path: str | os.PathLike[str]) -> Path:
    """Returns where the description of a TFRecord file stands: `<path>.json`."""
    path = Path(tfrecord_path)
    return path.with_name(path.name + ".json")


def write_sidecar(tfrecord_path: str | os.PathLike[str], description: Mapping[str, Any]) -> None:
    """Writes the description of a TFRecord file beside it, complete or not at all."""
    atomic_files.write_json(sidecar_path(tfrecord_path), description)


def read_sidecar(tfrecord_path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Returns the description that stands beside a TFRecord file, None where there is none.

    Raises:
      UserError: it is not a JSON object.
    """
    path = sidecar_path(tfrecord_path)
    try:
        return parse_sidecar(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None


def parse_sidecar(content: bytes, path: str) -> dict[str, Any]:
    """Returns the description that a sidecar holds.

    Args:
      content: of the file.
      path: of the file, for the message.

    Raises:
      UserError: it is not a JSON object.
    """
    return parse_json_object(content, path, advice="remove it, or make the TFRecord file again")
