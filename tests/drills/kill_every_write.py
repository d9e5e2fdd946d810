"""Kills every program at every call that changes a file, runs it again, and compares.

    python -m tests.drills.kill_every_write [--every N] [--cases NAME,...] [--at_random 20]
        [--seed 1] [--faults KILL,INT,TERM,FULL] [--no_charts] [--folder DIR]

The kills are SIGKILL (`tests/drills/kills.py`). After each, what stands under a final name must be
whole; then the same command must succeed, and leave the very files of a run that nobody disturbed,
bit for bit, and nothing else, not in the folder for temporary files either. A process that has
imported everything forks the runs, so that those without TensorFlow take a few hundredths of a
second. Programs with workers are also killed at random times of a longer run. Prints for each case
the kills that were survived and tried. `--every=10` tries a tenth of the calls, drawn by `--seed`.

After another signal, SIGINT or SIGTERM, the program must also end with the status that tells of it,
say so in one line, and itself leave nothing unfinished or temporary but what it goes on from. FULL
has the disk be full from the call on: one line names a path, and the rest is as after a signal.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import importlib
import json
import math
import os
import random
import re
import shutil
import signal
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

_UNFINISHED = ("*.partial", "*.partial/*", "*.replaced", "tmp/*")
"""What no program leaves that a signal has asked to end."""

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
      number: of the signal, or `kills.NO_SPACE`.
    """

    case: Case
    root: Path
    number: int = signal.SIGKILL
    expected: Tree = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inputs, self.work = self.root / "inputs", self.root / "work"
        self.earlier = self.root / "earlier"
        self.log, self.errors = self.root / "log", self.root / "errors"
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
        os.dup2(os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        if self.number != signal.SIGKILL:
            # A shell ignores it for what runs in the background.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if module.endswith(".sh"):
            os.chdir(self.inputs)
            os.execve(module, [module], {**os.environ, **flags})
        found = importlib.import_module(module)
        try:
            program.run(found.__doc__, found.define_flags, found.main, arguments(**flags))
        except SystemExit as end:
            return int(end.code or 0)

    def _run(self, module: str, flags: dict[str, Any], **how: Any) -> kills.Outcome:
        for said in (self.log, self.errors):
            said.unlink(missing_ok=True)
        work = functools.partial(self._program, module, flags)
        return kills.run(work, self.work, log=self.log, **how)

    def _run_whole(self, module: str, number: int = signal.SIGKILL, **flags: Any) -> kills.Outcome:
        outcome = self._run(module, flags, number=number)
        if outcome.status:
            raise AssertionError(f"{module} failed: {self._said()}")
        return outcome

    def _said(self) -> str:
        """Returns the end of what the program wrote."""
        said = [path.read_text()[-600:].strip() for path in (self.log, self.errors)]
        return " ".join(filter(None, said))

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
        calls = self._run_whole(self.case.module, number=self.number, **self._flags()).calls
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
        where = f"{_name(self.number)} with {when}"
        try:
            killed = self._run(self.case.module, self._flags(), number=self.number, **when)
            if killed.status == 0 and self.number == kills.NO_SPACE:
                assert killed.calls <= when["kill_at"], f"{where}: {killed.last}: status 0"
            if killed.status == 0 and killed.calls <= when.get("kill_at", math.inf):
                raise LookupError
            where += f", {killed.last}"
            if self.number != signal.SIGKILL:
                self._check_end(where, killed.status)
            self._check_names(where)
            again = self._run(self.case.module, self._flags())
            if again.status:
                return f"{where}: the second run failed: {self._said()}"
            self._compare(where)
        except (ValueError, TimeoutError) as error:
            return f"{where}: {error}"
        except AssertionError as error:
            return str(error)
        return None

    def _check_end(self, where: str, status: int) -> None:
        """Checks how a program ended that a signal had asked to, and what it left."""
        ours = not self.case.module.endswith(".sh")
        expected = 1 if self.number == kills.NO_SPACE else 128 + self.number
        assert status in ((expected,) if ours else (expected, -self.number)), (
            f"{where}: status {status}, expected {expected}: {self._said()}"
        )
        said = self.errors.read_text().splitlines()
        assert not ours or len(said) == 1, f"{where}: not one line: {said}"
        if ours and self.number == kills.NO_SPACE:
            line = said[0]
            assert "No space left" in line and str(self.work) in line, f"{where}: {line}"
        left = self._comparable(tree(self.work)).keys() - self.expected.keys()
        left -= self._comparable(tree(self.earlier)).keys() if self.earlier.exists() else set()
        left = {n for n in left if is_any(n, _UNFINISHED) or not is_any(n, self.case.goes_on_from)}
        assert not left, f"{where}: left over at its end {sorted(left)}"

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
    case: Case, root: Path, number: int, every: int, at_random: int, draw: random.Random
) -> tuple[int, int]:
    """Kills one case's program; returns how many kills were survived and tried."""
    drill = Drill(case, root, number)
    begin = time.monotonic()
    try:
        calls = drill.calls()
    except AssertionError as error:
        print(f"  {case.name}: {error}", flush=True)
        return 0, 1
    seconds = (time.monotonic() - begin) / 2
    others: tuple[kills.Victim, ...] = ("worker" if number == signal.SIGKILL else "group",)
    has_others = case.workers and number != kills.NO_SPACE
    victims: tuple[kills.Victim, ...] = ("program", *(others if has_others else ()))
    if not case.module.startswith(("data_prep", "bert_clinical")):
        # A shell waits for what it runs.
        victims = victims if number == signal.SIGKILL else others
    if case.is_long and number == kills.NO_SPACE:
        return 0, 0
    if case.is_long:
        kills_to_try = [
            {"kill_after": draw.uniform(0, seconds), "victim": draw.choice(victims)}
            for _ in range(at_random)
        ]
    else:
        kills_to_try = [
            {"kill_at": call, "victim": victim}
            for call in sorted(draw.sample(range(calls), -(-calls // every)))
            for victim in victims
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
    figures = f"{survived} of {tried} {_name(number)} survived ({calls} calls, {seconds:.0f} s)"
    print(f"{case.name}: {figures}", flush=True)
    return survived, tried


def _name(number: int) -> str:
    """Returns what a fault is called."""
    if number == signal.SIGKILL:
        return "kills"
    return "full disks" if number == kills.NO_SPACE else f"{signal.Signals(number).name}s"


def main() -> None:
    """Runs the drill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--cases", help="names or patterns, comma-separated; all unless given")
    parser.add_argument("--at_random", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", default="KILL", help="comma-separated, such as INT,TERM,FULL")
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
    numbers = {
        name: kills.NO_SPACE if name == "FULL" else signal.Signals[f"SIG{name}"]
        for name in values.faults.split(",")
    }
    with tempfile.TemporaryDirectory() as temporary:
        for case in chosen:
            root = Path(values.folder or temporary, case.name)
            case.warm_up(root)
            for name, number in numbers.items():
                place = root / name
                place.mkdir(parents=True)
                here, there = _drill(case, place, number, values.every, values.at_random, draw)
                survived, tried = survived + here, tried + there
    print(f"all: {survived} of {tried} faults survived")
    sys.exit(survived != tried)


if __name__ == "__main__":
    main()
