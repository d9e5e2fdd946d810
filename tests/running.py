"""Runs the project's programs as their users do."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.common import program
from tests.warm_programs import WarmPrograms

ROOT = Path(__file__).parents[1]
HANG_SECONDS = 900
"""A limit that a hang reaches and a busy machine does not."""

_WARM = WarmPrograms(ROOT)


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


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Waits for a sign of what a process does; fails if it ends or hangs before."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the process shows no sign of it"
        time.sleep(0.01)


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
