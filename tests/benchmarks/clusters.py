"""What a cluster costs: format_notes on Flink against one process, and what is not the engine's.

    python -m tests.benchmarks.clusters [--notes 3000] [--repeats 3]

Flink has two task managers of two slots in network namespaces of this machine (root, Java and
Maven), so that no speed-up is to be had: the figures show what the engine costs. Seconds, medians.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.beam_pipelines import folder_bytes
from tests.clusters import engines
from tests.clusters.nodes import network
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
        alone = [_seconds(folder / "alone", flags) for _ in range(values.repeats)]
        print(f"{values.notes} notes, {notes.stat().st_size / 1e6:.1f} MB")
        print(f"{'one process':34} {statistics.median(alone):7.1f} s")
        with network(3) as nodes, engines.flink(nodes, folder / "flink") as cluster:
            totals, in_jobs = [], []
            # What the first run finds cold stays warm on a cluster.
            _seconds(folder / "flink-few", {**flags, **cluster.flags, "input_file": few})
            for _ in range(values.repeats):
                before = len(cluster.ended_jobs())
                totals.append(_seconds(folder / "flink-text", {**flags, **cluster.flags}))
                in_jobs.append(sum(cluster.ended_jobs()[before:]))
            assert folder_bytes(folder / "alone") == folder_bytes(folder / "flink-text")
        rest = [total - jobs for total, jobs in zip(totals, in_jobs, strict=True)]
        print(f"{'Flink, 2 x 2 slots':34} {statistics.median(totals):7.1f} s")
        print(f"{'  of which in its two jobs':34} {statistics.median(in_jobs):7.1f} s")
        print(f"{'  of which everything else':34} {statistics.median(rest):7.1f} s")


def _notes(folder: Path, number: int) -> Path:
    path = folder / f"notes-{number}.csv"
    assert_success(run_program("data_prep.sample_notes", output_file=path, num_notes=number))
    return path


def _seconds(out: Path, flags: dict[str, Any]) -> float:
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    assert_success(run_program("data_prep.format_notes", output_dir=out, **flags))
    return time.monotonic() - start


if __name__ == "__main__":
    main()
