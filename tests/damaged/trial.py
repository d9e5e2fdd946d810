"""Damages a file of a kind again and again, and says how its reader bore it."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import resource
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.common.errors import UserError
from tests.damaged.formats import Format

_MOST_BYTES = 1 << 30
_SILENT = "another result without a word"
_RIGHT, _REFUSED, _OTHER = "right", "refused", "another result"


@dataclass
class Trial:
    """What came of the mutations of a kind.

    Attributes:
      outcomes: how many were read right, refused, or read as something else.
      faults: those that were met badly, a line each.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def run_trial(kind: Format, mutations: int, seed: int) -> Trial:
    """Damages a file so many times; the same seed does the same."""
    trial = Trial()
    rng = random.Random(f"{kind.name} {seed}")
    with tempfile.TemporaryDirectory() as temporary:
        sound = Path(temporary) / "sound"
        sound.mkdir()
        kind.make(sound)
        folder = Path(temporary) / "damaged"
        shutil.copytree(sound, folder)
        expected = copy.deepcopy(kind.read(folder))
        (path,) = sound.glob(kind.file)
        content = path.read_bytes()
        for number in range(max(1, mutations // kind.cost)):
            shutil.rmtree(folder)
            shutil.copytree(sound, folder)
            new = kind.mutate(content, rng)
            (folder / path.relative_to(sound)).write_bytes(new)
            with _limited_memory():
                outcome, fault = _read(kind, folder, expected, is_same=new == content)
            if outcome == _OTHER and fault == _SILENT and kind.is_sound(new):
                fault = ""
            trial.outcomes[outcome] += 1
            if fault:
                trial.faults.append(f"mutation {number} (seed {seed}): {fault}")
    return trial


def _read(kind: Format, folder: Path, expected: object, *, is_same: bool) -> tuple[str, str]:
    try:
        found = kind.read(folder)
    except UserError as error:
        message = str(error)
        if str(folder) not in message and Path(kind.file).name not in message:
            return _REFUSED, f"does not name the file: {message[:300]}"
        if len(message) > 1500:
            return _REFUSED, f"a message of {len(message)} characters: {message[:100]}"
        try:
            message.encode()
        except UnicodeEncodeError:
            return _REFUSED, f"a message that cannot be written: {message!r:.200}"
        return _REFUSED, "" if not is_same else f"a sound file is refused: {message}"
    except Exception as error:  # noqa: BLE001
        frames = traceback.extract_tb(error.__traceback__)
        places = ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-4:])
        return _OTHER, f"{type(error).__name__} ({places}): {error!s:.150}"
    if found == expected:
        return _RIGHT, ""
    return _OTHER, _SILENT if kind.has_checksum else ""


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    """Has no more than a gigabyte be asked for within the block."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = pages * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def distinct(faults: list[str]) -> Iterator[str]:
    """Yields one fault of each kind."""
    seen = set()
    for fault in faults:
        key = fault.partition(": ")[2][:60]
        if key not in seen:
            seen.add(key)
            yield fault
