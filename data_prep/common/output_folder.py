"""A folder that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.common.atomic_files import PARTIAL_SUFFIX
from data_prep.common.program import UserError

RECORD_FILE = "conversion.json"
"""Says which program made the folder, of what, and which files are its own."""

_IN_PROGRESS = ".in_progress"


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
    foreign = sorted(present - set(record.get("files", [])) - {RECORD_FILE})
    if foreign:
        raise UserError(
            f"--output_dir: {path} also holds {foreign[0]}, which {program} did not write and "
            "would remove; move it elsewhere or choose a new folder"
        )


def read_record(folder: Path) -> dict[str, Any]:
    """Returns what `conversion.json` says, an empty dict where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@contextlib.contextmanager
def complete_folder(path: Path, program: str, record: dict[str, Any]) -> Iterator[Path]:
    """Yields `<path>.partial` to be filled, and moves it to `path` when the block ends well.

    What `require_replaceable` allows at `path` is replaced only then. After an exception the
    partial folder is removed and `path` is as it was.

    Args:
      path: the final name; folders above it are made.
      program: the name under which the folder can be replaced by a later run.
      record: what else `conversion.json` is to say; the caller may add to it inside the block.
    """
    path = path.absolute()
    require_replaceable(path, program)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    if partial.exists():
        if not (partial / _IN_PROGRESS).is_file():
            raise UserError(f"--output_dir: {partial} is in the way; move it elsewhere")
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        (partial / _IN_PROGRESS).touch()
        yield partial
        files = sorted(entry.name for entry in partial.iterdir() if entry.name != _IN_PROGRESS)
        text = json.dumps({"program": program, **record, "files": files}, indent=2)
        (partial / RECORD_FILE).write_text(text + "\n", encoding="utf-8")
        for entry in partial.rglob("*"):
            _sync(entry)
        (partial / _IN_PROGRESS).unlink()
        _sync(partial)
        _replace(partial, path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:
            # A failed write does not say where it was.
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _replace(new: Path, path: Path) -> None:
    """Moves a folder to a name where an older one may stand."""
    if not path.exists():
        new.replace(path)
    elif not any(path.iterdir()):
        path.rmdir()
        new.replace(path)
    else:
        # Folders cannot be exchanged in one step; the old one is kept until the new one stands.
        old = path.with_name(f"{path.name}.replaced-{os.getpid()}")
        path.replace(old)
        new.replace(path)
        shutil.rmtree(old)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
