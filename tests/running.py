"""Runs the project's programs as their users do."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bert_clinical.weights.pytorch_process import is_available
from data_prep.common import program
from tests.warm_programs import WarmProcess, WarmPrograms

ROOT = Path(__file__).parents[1]
HANG_SECONDS = 1800
"""A limit that a hang reaches and a busy machine does not; what waits takes no other."""

Process = subprocess.Popen[str] | WarmProcess

WARM_PYTORCH = WarmPrograms(ROOT, "pytorch")
_WARM = WarmPrograms(ROOT, "tensorflow", WARM_PYTORCH if is_available() else None)


def arguments(**flags: Any) -> list[str]:
    """Returns `--name=value` for each flag; None is left out."""
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]


def run_program(
    module: str,
    *args: str,
    env: dict[str, str] | None = None,
    timeout: float = HANG_SECONDS,
    **flags: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module --flag=value ...` in a process of its own.

    A program of TensorFlow's has it imported already, unless `env` is given, see `warm_programs`.
    """
    if env is None and module.startswith("bert_clinical."):
        return _WARM.run(module, [*args, *arguments(**flags)], timeout)
    return subprocess.run(
        [sys.executable, "-m", module, *args, *arguments(**flags)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def start_python(*args: str, env: dict[str, str] | None = None) -> WarmProcess:
    """Starts `python args` for what imports TensorFlow, and has it imported already.

    Args:
      *args: `-m MODULE` or `-c CODE`, and what follows.
      env: beside the environment of this process; not what TensorFlow looks up when it is imported.
    """
    return _WARM.start(args, {**os.environ, **(env or {})})


def warm_python() -> Path:
    """Returns what shell scripts under test take for Python: it has TensorFlow imported already."""
    return _WARM.python()


def start_program(module: str, *args: str, **flags: Any) -> WarmProcess:
    """Starts what `run_program` runs, for tests that send it signals."""
    return start_python("-m", module, *args, *arguments(**flags))


def finished(process: Process) -> subprocess.CompletedProcess[str]:
    """Waits for the end of a process and returns how it ended."""
    out, err = process.communicate(timeout=HANG_SECONDS)
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)


def wait_until(condition: Callable[[], object], *processes: Process) -> None:
    """Waits for a sign of what processes do; fails if one of them ends, or they hang, before."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the processes show no sign of it"
        time.sleep(0.01)


def free_port() -> int:
    """Returns a free port, of those that the system gives to no connection of another test's."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    end = int(given[0]) if int(given[0]) > 20_000 else 65_536
    while True:
        port = random.SystemRandom().randrange(10_000, end)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def exit_status_here(module: str, *args: str, **flags: Any) -> int:
    """Runs a program within this process, as fast as its work is; returns its exit status."""
    found = importlib.import_module(module)
    return program.run_to_exit_status(
        found.__doc__, found.define_flags, found.main, [*args, *arguments(**flags)]
    )


def run_here(
    capture: pytest.CaptureFixture[str], module: str, *args: str, **flags: Any
) -> subprocess.CompletedProcess[str]:
    """Returns what `run_program` returns, without a process of its own."""
    capture.readouterr()
    status = exit_status_here(module, *args, **flags)
    said = capture.readouterr()
    return subprocess.CompletedProcess([module], status, said.out, said.err)


def assert_success(result: subprocess.CompletedProcess[str]) -> None:
    """Checks that a program ended well."""
    assert result.returncode == 0, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"


def assert_one_line_error(
    result: subprocess.CompletedProcess[str], exit_status: int, *fragments: str
) -> None:
    """Checks exit status, one line on standard error with the fragments in it, no traceback."""
    shown = f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == exit_status, shown
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, shown
    assert "Traceback" not in result.stdout + result.stderr, shown
    assert "unexpected" not in lines[0] or "withheld" not in lines[0], shown
    for fragment in fragments:
        assert fragment in lines[0], f"{fragment!r} is not in: {lines[0]}"
