"""Kills every program at every call that changes a file, runs it again, and compares.

    python -m tests.drills.kill_every_write [--every N] [--cases NAME,...] [--at_random 20]
        [--seed 1] [--no_charts] [--folder DIR]

The kills are SIGKILL (`tests/drills/kills.py`). After each, what stands under a final name must be
whole; then the same command must succeed, and leave the very files of a run that nobody disturbed,
bit for bit, and nothing else, not in the folder for temporary files either. A process that has
imported everything forks the runs, so that those without TensorFlow take a few hundredths of a
second. Programs with workers are also killed at random times of a longer run. Prints for each case
the kills that were survived and tried. `--every=10` tries a tenth of the calls, drawn by `--seed`.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import importlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.common import html_report, program
from data_prep.formatting import work_folder
from tests.drills import kills
from tests.drills.kill_cases import CASES, Case
from tests.running import arguments

_THEIRS = ("tmp/__autograph_generated_file*", "tmp/__pycache__*")
"""Code that TensorFlow makes of code, and removes at its end; not of any data."""

_SPEED = re.compile("seconds|per_second|share_of_peak")

Tree = dict[str, bytes | None]
"""What stands below a folder: the content of each file by its path, None for a folder."""


def tree(folder: Path) -> Tree:
    """Returns what stands below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def is_any(name: str, patterns: Iterable[str]) -> bool:
    """Tells whether a path matches one of some patterns."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _without_speeds(content: bytes) -> Any:
    """Returns the values of JSON, or of lines of JSON, but those that tell how fast it was."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(v) for name, v in value.items() if not _SPEED.search(name)}
        return value

    try:
        return kept(json.loads(content))
    except ValueError:
        return [kept(json.loads(line)) for line in content.splitlines()]


@dataclass
class Drill:
    """One case in folders of its own.

    Args:
      case: what is run.
      root: an empty folder.
    """

    case: Case
    root: Path
    expected: Tree = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inputs, self.work = self.root / "inputs", self.root / "work"
        self.earlier = self.root / "earlier"
        self.log = self.root / "log"
        self.inputs.mkdir()
        self.case.prepare(self.inputs, self._run_whole)
        self._begin()
        if self.case.earlier is not None:
            self._run_whole(self.case.module, **self.case.earlier(self.inputs, self.work / "out"))
        self.work.rename(self.earlier)

    def _begin(self) -> None:
        """Makes the folder as it is before the first start."""
        shutil.rmtree(self.work, ignore_errors=True)
        if self.earlier.exists():
            shutil.copytree(self.earlier, self.work)
        else:
            (self.work / "tmp").mkdir(parents=True)
            (self.work / "out").mkdir()

    def _program(self, module: str, flags: dict[str, Any]) -> int:
        tempfile.tempdir = str(self.work / "tmp")
        os.environ["TMPDIR"] = tempfile.tempdir
        if module.endswith(".sh"):
            os.chdir(self.inputs)
            os.execve(module, [module], {**os.environ, **flags})
        found = importlib.import_module(module)
        return program.run_to_exit_status(
            found.__doc__, found.define_flags, found.main, arguments(**flags)
        )

    def _run(self, module: str, flags: dict[str, Any], **how: Any) -> kills.Outcome:
        self.log.unlink(missing_ok=True)
        work = functools.partial(self._program, module, flags)
        return kills.run(work, self.work, log=self.log, **how)

    def _run_whole(self, module: str, **flags: Any) -> kills.Outcome:
        outcome = self._run(module, flags)
        if outcome.status:
            raise AssertionError(f"{module} failed: {self.log.read_text()}")
        return outcome

    def _flags(self) -> dict[str, Any]:
        return self.case.flags(self.inputs, self.work / "out")

    def _comparable(self, kept: Tree) -> dict[str, Any]:
        """Returns what must be the same in all runs."""
        case = self.case
        found: dict[str, Any] = {}
        for name, content in kept.items():
            if is_any(name, (*_THEIRS, *case.named_anew)):
                continue
            found[name] = content
            if is_any(name, case.differs):
                found[name] = b"differs"
            elif is_any(name, case.speeds) and content is not None:
                found[name] = _without_speeds(content)
        return found

    def calls(self) -> int:
        """Runs the program twice without a kill; returns how many calls it makes."""
        self._begin()
        calls = self._run_whole(self.case.module, **self._flags()).calls
        self.expected = tree(self.work)
        self._begin()
        self._run_whole(self.case.module, **self._flags())
        self._compare("twice undisturbed")
        return calls

    def kill(self, **when: Any) -> str | None:
        """Kills the program as `kills.run` takes it; returns what was wrong afterwards.

        Returns:
          None if nothing was wrong.

        Raises:
          LookupError: it ends before.
        """
        self._begin()
        killed = self._run(self.case.module, self._flags(), **when)
        if killed.status == 0:
            raise LookupError
        where = f"killed with {when}, {killed.last}"
        try:
            self._check_names(where)
            again = self._run(self.case.module, self._flags())
            if again.status:
                return f"{where}: the second run failed: {self.log.read_text().strip()[-300:]}"
            self._compare(where)
        except (AssertionError, ValueError) as error:
            return f"{where}: {error}" if isinstance(error, ValueError) else str(error)
        return None

    def _check_names(self, where: str) -> None:
        """Checks that what stands under a final name is whole, the new or the earlier one."""
        earlier, found, expected = (
            self._comparable(kept) for kept in (tree(self.earlier), tree(self.work), self.expected)
        )
        for name in found.keys() & expected.keys():
            if name.endswith(".json"):
                json.loads((self.work / name).read_bytes())
            if not is_any(name, self.case.grows):
                assert found[name] in (expected[name], earlier.get(name, b"none")), (
                    f"{where}: {name} is half-written under its name"
                )

    def _compare(self, where: str) -> None:
        expected, found = map(self._comparable, (self.expected, tree(self.work)))
        assert found.keys() == expected.keys(), (
            f"{where}: left over {sorted(found.keys() - expected.keys())}, "
            f"missing {sorted(expected.keys() - found.keys())}"
        )
        changed = [name for name in found if found[name] != expected[name]]
        assert not changed, f"{where}: other bits in {changed}"


def _drill(
    case: Case, root: Path, every: int, at_random: int, draw: random.Random
) -> tuple[int, int]:
    """Kills one case's program; returns how many kills were survived and tried."""
    drill = Drill(case, root)
    begin = time.monotonic()
    try:
        calls = drill.calls()
    except AssertionError as error:
        print(f"  {case.name}: {error}", flush=True)
        return 0, 1
    seconds = (time.monotonic() - begin) / 2
    workers = (False, True) if case.workers else (False,)
    if case.is_long:
        kills_to_try = [
            {"kill_after": draw.uniform(0, seconds), "kill_worker": draw.choice(workers)}
            for _ in range(at_random)
        ]
    else:
        kills_to_try = [
            {"kill_at": call, "kill_worker": worker}
            for call in sorted(draw.sample(range(calls), -(-calls // every)))
            for worker in workers
        ]
    survived = tried = 0
    for when in kills_to_try:
        try:
            wrong = drill.kill(**when)
        except LookupError:
            # Workers do not always make as many calls or take as long.
            continue
        tried += 1
        survived += wrong is None
        if wrong is not None:
            print(f"  {case.name}: {wrong}", flush=True)
    seconds = time.monotonic() - begin
    print(
        f"{case.name}: {survived} of {tried} kills survived ({calls} calls, {seconds:.0f} s)",
        flush=True,
    )
    return survived, tried


def main() -> None:
    """Runs the drill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--cases", help="names or patterns, comma-separated; all unless given")
    parser.add_argument("--at_random", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no_charts", action="store_true")
    parser.add_argument("--folder", help="kept afterwards; a temporary one unless given")
    values = parser.parse_args()
    patterns = (values.cases or "*").split(",")
    chosen = [case for case in CASES if is_any(case.name, patterns)]
    if not chosen:
        sys.exit(f"no case is called {values.cases}")
    # Several work shards of a few notes.
    work_folder._NOTES_PER_SHARD = 2
    # What a run imports or compiles only once is done before it is forked.
    for module in sorted({name for case in chosen for name in case.imports}):
        importlib.import_module(module)
    if values.no_charts:
        # They take most of the time of a small run, and it is not they who write.
        html_report._figure = lambda *_: ""
    draw = random.Random(values.seed)
    survived = tried = 0
    with tempfile.TemporaryDirectory() as temporary:
        for case in chosen:
            root = Path(values.folder or temporary, case.name)
            root.mkdir(parents=True)
            case.warm_up(root)
            here, there = _drill(case, root, values.every, values.at_random, draw)
            survived, tried = survived + here, tried + there
    print(f"all: {survived} of {tried} kills survived")
    sys.exit(survived != tried)


if __name__ == "__main__":
    main()
