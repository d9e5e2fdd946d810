"""Runs the two conversion programs inside the test's process, as fast as their work is."""

from __future__ import annotations

import importlib
import subprocess
from typing import Any

import pytest

from data_prep import program
from tests.programs import arguments


def run_here(
    capsys: pytest.CaptureFixture[str], module: str, *args: str, **flags: Any
) -> subprocess.CompletedProcess[str]:
    """Returns what `tests.programs.run_program` returns, without a process of its own."""
    found = importlib.import_module(module)
    capsys.readouterr()
    command = [*args, *arguments(**flags)]
    status = program.run_to_exit_status(found.__doc__, found.define_flags, found.main, command)
    said = capsys.readouterr()
    return subprocess.CompletedProcess(command, status, said.out, said.err)
