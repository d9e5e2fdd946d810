"""Where the tests' time goes: CPU seconds by wing, by file and by test.

  python -m pytest -p tests.benchmarks.suite_time -n 2 --dist worksteal

CPU seconds hardly depend on what else a machine does, as elapsed seconds do. Those of all processes
that a test starts count for it; those of a fixture for the test that asks for it first; those of a
process that has left its parent for none. Linux alone tells them.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

_TICKS = os.sysconf("SC_CLK_TCK")
_LONGEST = 60
_NAME = "cpu_seconds"


def cpu_seconds() -> float:
    """Returns what this process and all below it have taken so far, those that ended included."""
    parents: dict[int, int] = {}
    taken: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            # The name of a program, in parentheses, may hold spaces.
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        taken[pid] = sum(map(int, fields[11:15]))
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(taken[pid] for pid in below) / _TICKS


class _Clock:
    """Tells of each phase of a test what it has taken."""

    def __init__(self) -> None:
        self._before = cpu_seconds()
        self._elapsed = time.monotonic()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        report = yield
        now, elapsed = cpu_seconds(), time.monotonic()
        slow = item.get_closest_marker("slow") is not None
        report.user_properties.append(
            (_NAME, (report.when, now - self._before, elapsed - self._elapsed, slow))
        )
        item.user_properties.clear()
        self._before, self._elapsed = now, elapsed
        return report


class _Table:
    """Adds up what the processes of a test run tell, and prints it at the end."""

    def __init__(self) -> None:
        self._tests: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._slow: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name != _NAME:
                continue
            when, cpu, elapsed, slow = value
            test = self._tests[report.nodeid]
            test[0] += cpu
            test[1] += cpu if when == "setup" else 0
            test[2] += elapsed
            if slow:
                self._slow.add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        write = terminalreporter.write_line
        terminalreporter.section("CPU seconds, of them in fixtures, elapsed")
        for title, length in (("wing", 2), ("file", 9)):
            write("")
            groups: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
            for test, seconds in self._tests.items():
                group = "/".join(test.split("::")[0].split("/")[:length])
                groups[group] = [a + b for a, b in zip(groups[group], seconds, strict=True)]
            self._rows(write, f"by {title}", groups, len(groups))
        write("")
        self._rows(write, f"the {_LONGEST} longest tests", self._tests, _LONGEST)
        quick = {test: value for test, value in self._tests.items() if test not in self._slow}
        for title, tests in (("all", self._tests), ("not slow", quick)):
            if tests:
                total = [sum(column) for column in zip(*tests.values(), strict=True)]
                self._rows(write, title, {f"{len(tests)} tests": total}, 1)

    def _rows(self, write: Any, title: str, groups: dict[str, list[float]], count: int) -> None:
        write(f"{title}:")
        for name, seconds in sorted(groups.items(), key=lambda group: -group[1][0])[:count]:
            mark = " (slow)" if name in self._slow else ""
            write(" ".join(f"{value:8.1f}" for value in seconds) + f"  {name}{mark}")


def pytest_configure(config: pytest.Config) -> None:
    """Measures in each process that runs tests; prints in the one that a user started."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.getoption("numprocesses", None):
        config.pluginmanager.register(_Clock())
    if not is_worker:
        config.pluginmanager.register(_Table())
