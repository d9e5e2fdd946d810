"""Runs the programs on runners of Beam, as their users do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import ROOT, free_port, wait_until

beam = pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

DIRECT = {"runner": "DirectRunner"}


def processes(count: int) -> dict[str, str]:
    """Flags for the DirectRunner with so many worker processes."""
    return {
        **DIRECT,
        "pipeline_options": f"--direct_num_workers={count} --direct_running_mode=multi_processing",
    }


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Returns every file below a folder by its path within it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


@contextlib.contextmanager
def service(module: str, port: int, *args: str) -> Iterator[None]:
    """Runs a server in a process group of its own until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *args],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: _listens(port), process)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def job_service(folder: Path) -> Iterator[dict[str, str]]:
    """Starts a job service and a pool of worker processes: what clusters of Flink and Spark have.

    Yields the flags for a program that is to use them.
    """
    jobs, pool = free_port(), free_port()
    with (
        service(
            "apache_beam.runners.portability.local_job_service_main",
            jobs, f"--port={jobs}", f"--staging_dir={folder}",
        ),
        service("data_prep.worker_pool", pool, f"--port={pool}"),
    ):  # fmt: skip
        yield {
            "runner": "PortableRunner",
            "pipeline_options": f"--job_endpoint=localhost:{jobs} "
            f"--environment_type=EXTERNAL --environment_config=localhost:{pool}",
        }
