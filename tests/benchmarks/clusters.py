"""What a cluster costs: format_notes on Flink against one process, and what is not the engine's.

    python -m tests.benchmarks.clusters [--notes 3000] [--repeats 3]

Flink has two task managers of two slots in network namespaces of this machine (root, Java and
Maven), so that no speed-up is to be had: the figures show what the engine costs. Medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.beam_pipelines import folder_bytes
from tests.clusters import engines
from tests.clusters.nodes import Node, network
from tests.running import assert_success, run_program

_FEW = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    values = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notes, few = (_notes(folder, number) for number in (values.notes, _FEW))
        flags = {
            "input_file": notes, "category": "all", "num_shards": 8, "deduplicate": "near",
            "sentence_splitter": "rules",
        }  # fmt: skip
        alone = [_run(folder / "alone", flags) for _ in range(values.repeats)]
        print(f"{values.notes} notes, {notes.stat().st_size / 1e6:.1f} MB")
        with network(3) as nodes, engines.flink(nodes, folder / "flink") as cluster:
            # What the first run finds cold stays warm on a cluster.
            _run(folder / "flink-few", {**flags, **cluster.flags, "input_file": few})
            on_flink = [
                _run(folder / "flink-text", {**flags, **cluster.flags}, cluster, nodes.nodes)
                for _ in range(values.repeats)
            ]
            assert folder_bytes(folder / "alone") == folder_bytes(folder / "flink-text")
        _print("one process", [run.seconds for run in alone], [run.cpu for run in alone])
        _print("Flink, 2 x 2 slots", [run.seconds for run in on_flink])
        _print("  its job", [run.in_jobs for run in on_flink], [run.nodes_cpu for run in on_flink])
        _print(
            "  everything else",
            [run.seconds - run.in_jobs for run in on_flink],
            [run.cpu for run in on_flink],
        )
        print(f"load while it ran: {max(run.load for run in [*alone, *on_flink]):.1f}")


class _Run(NamedTuple):
    """What a run took: seconds, those of Flink's own jobs, and of processors.

    Attributes:
      seconds: from start to end.
      cpu: of the program and what it started.
      in_jobs: of `seconds`, those of Flink's jobs.
      nodes_cpu: of the engine and its workers.
      load: of the machine at the end; beyond 2, it was shared, and `cpu` tells more than `seconds`.
    """

    seconds: float
    cpu: float
    in_jobs: float
    nodes_cpu: float
    load: float


def _run(
    out: Path,
    flags: dict[str, Any],
    cluster: engines.Cluster | None = None,
    nodes: Sequence[Node] = (),
) -> _Run:
    shutil.rmtree(out, ignore_errors=True)
    jobs_before = len(cluster.ended_jobs()) if cluster else 0
    nodes_before = sum(node.cpu_seconds() for node in nodes)
    cpu_before = _cpu_of_children()
    start = time.monotonic()
    assert_success(run_program("data_prep.format_notes", output_dir=out, **flags))
    return _Run(
        time.monotonic() - start,
        _cpu_of_children() - cpu_before,
        sum(cluster.ended_jobs()[jobs_before:]) if cluster else 0.0,
        sum(node.cpu_seconds() for node in nodes) - nodes_before,
        os.getloadavg()[0],
    )


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _print(what: str, seconds: list[float], cpu: list[float] | None = None) -> None:
    used = f"{statistics.median(cpu):9.1f} s CPU" if cpu else ""
    print(f"{what:24}{statistics.median(seconds):8.1f} s{used}")


def _notes(folder: Path, number: int) -> Path:
    path = folder / f"notes-{number}.csv"
    assert_success(run_program("data_prep.sample_notes", output_file=path, num_notes=number))
    return path


if __name__ == "__main__":
    main()
