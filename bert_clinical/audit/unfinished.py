"""Results that an audit keeps until it is whole, so that a stopped one goes on: numbers alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.own_files import AUDIT_FOLDER

_SETTINGS = "settings.json"


class Unfinished:
    """The results so far, a file for each.

    Args:
      output_dir: of the audit; exists.
      settings: what all results follow from.

    Raises:
      UserError: the folder holds the results of another audit.
    """

    def __init__(self, output_dir: Path, settings: Mapping[str, Any]) -> None:
        self._path = output_dir / AUDIT_FOLDER
        settings_file = self._path / _SETTINGS
        if settings_file.exists():
            if read_json_object(settings_file, advice=self._advice()) != settings:
                raise UserError(
                    f"{self._path} holds the unfinished work of an audit of another model, other "
                    "files or other flags; give the same to go on, remove it, or choose another "
                    "--output_dir"
                )
        else:
            # Of a run that was killed before its settings were there, or while it removed all.
            remove(output_dir)
            self._path.mkdir()
            atomic_files.write_json(settings_file, settings)

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Returns a result, made now if it is not there."""
        path = self._path / f"{name}.json"
        if path.exists():
            return read_json_object(path, advice=self._advice())
        result = make()
        atomic_files.write_json(path, result)
        return result

    def has(self, name: str) -> bool:
        """Tells whether a result is there."""
        return (self._path / f"{name}.json").exists()

    def _advice(self) -> str:
        return f"remove {self._path} to begin anew"


def remove(output_dir: Path) -> None:
    """Removes the results; to be called when the audit is whole."""
    path = output_dir / AUDIT_FOLDER
    if path.exists():
        # First, so that what a kill leaves of the rest is taken for no audit's.
        (path / _SETTINGS).unlink(missing_ok=True)
        atomic_files.sync(path)
        shutil.rmtree(path)
