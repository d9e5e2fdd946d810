"""A folder that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.common import atomic_files, output_mode
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.paths import make_folder

RECORD_FILE = "conversion.json"
"""Says which program made the folder, of what, and which files are its own."""

_REPLACED_SUFFIX = ".replaced"


def require_replaceable(path: Path, program: str) -> None:
    """Checks that a folder may be written: new, empty, or an earlier output of the same program.

    Raises:
      UserError: it holds anything else, which would be lost.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"--output_dir: {path} is a file; a folder was expected")
    present = {entry.name for entry in path.iterdir()}
    if not present:
        return
    record = read_record(path)
    if record.get("program") != program:
        raise UserError(
            f"--output_dir: {path} already holds {len(present)} file(s) that are no output of "
            f"{program}; choose a new folder or an empty one"
        )
    own = {RECORD_FILE, *record.get("files", [])}
    foreign = sorted(name for name in present - own if atomic_files.final_name(name) not in own)
    if foreign:
        raise UserError(
            f"--output_dir: {path} also holds {foreign[0]}, which {program} did not write and "
            "would remove; move it elsewhere or choose a new folder"
        )


def read_record(folder: Path) -> dict[str, Any]:
    """Returns what `conversion.json` says, an empty dict where there is none that can be read."""
    try:
        return read_json_object(folder / RECORD_FILE)
    except UserError:
        return {}


@contextlib.contextmanager
def complete_folder(path: Path, program: str, record: dict[str, Any]) -> Iterator[Path]:
    """Yields a folder to be filled, and moves it to `path` when the block ends well.

    What `require_replaceable` allows at `path` is replaced only then. After an exception the new
    folder is removed and `path` is as it was. After a kill the next run puts in order what it
    finds.

    Args:
      path: the final name; folders above it are made.
      program: the name under which the folder can be replaced by a later run.
      record: what else `conversion.json` is to say; the caller may add to it inside the block.

    Raises:
      UserError: `path` holds what is not the program's, or another program is writing it.
    """
    # A link stays, and what it leads to is replaced.
    path = path.resolve()
    make_folder(path.parent)
    with atomic_files.partial_folder(path) as partial:
        _settle(path)
        require_replaceable(path, program)
        yield partial
        files = sorted(entry.name for entry in partial.iterdir())
        text = json.dumps({"program": program, **record, "files": files}, indent=2)
        (partial / RECORD_FILE).write_text(text + "\n", encoding="utf-8")
        output_mode.keep(path, partial)
        for entry in partial.rglob("*"):
            output_mode.keep(path / entry.relative_to(partial), entry)
            atomic_files.sync(entry)
        atomic_files.sync(partial)
        is_replaced = path.exists() and any(path.iterdir())
        # After an exchange it is the old folder that stands under the partial name.
        if not is_replaced or not atomic_files.exchange(partial, path):
            _replace_in_two_steps(partial, path)


def _replace_in_two_steps(partial: Path, path: Path) -> None:
    """Replaces a folder on a file system that cannot exchange two: the old one is kept aside."""
    try:
        if path.exists() and any(path.iterdir()):
            atomic_files.replace(path, atomic_files.unique_name(path, _REPLACED_SUFFIX))
        atomic_files.replace(partial, path)
    finally:
        _settle(path)


def _settle(path: Path) -> None:
    """Removes the folders that `path` has replaced; puts one back if nothing stands in its place.

    To be called only by who holds a partial folder of `path`.
    """
    for old in atomic_files.unique_names(path, _REPLACED_SUFFIX):
        if path.exists():
            shutil.rmtree(old)
        else:
            atomic_files.replace(old, path)
