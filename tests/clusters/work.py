"""Notes in every format, what one machine makes of them, and programs at work on clusters."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.beam import progress as beam_progress
from data_prep.formatting import work_folder
from tests.beam_pipelines import folder_bytes
from tests.clusters.nodes import Node
from tests.golden_data import golden
from tests.running import HANG_SECONDS, ROOT, arguments, assert_success, run_program

FORMAT_NOTES = "data_prep.format_notes"
CREATE_PRETRAINING_DATA = "bert_clinical.create_pretraining_data"

# Words that the made-up notes are full of, and that nothing of ours may say.
WORDS_OF_NOTES = ("Admission Date", "Allergies", "Discharge Medications", "[**")


def make_notes(folder: Path, count: int) -> str:
    """Writes a plain CSV, a gzip one and a Parquet file; returns them for --input_file."""
    import pyarrow.csv
    import pyarrow.parquet

    folder.mkdir(parents=True)
    paths = [folder / "a.csv", folder / "b.csv", folder / "c.csv"]
    for seed, path in enumerate(paths):
        assert_success(
            run_program(
                "data_prep.sample_notes", output_file=path, num_notes=count // 3, random_seed=seed
            )
        )
    (folder / "b.csv.gz").write_bytes(gzip.compress(paths[1].read_bytes()))
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(paths[2], parse_options=options)
    pyarrow.parquet.write_table(table, folder / "c.parquet", row_group_size=100)
    return f"{paths[0]},{folder}/b.csv.gz,{folder}/c.parquet"


def format_flags(notes: str, **more: Any) -> dict[str, Any]:
    """Returns flags with which every part of format_notes takes part."""
    return {
        "input_file": notes, "category": "all", "num_shards": 3, "deduplicate": "near",
        "held_out_fraction": 0.2, "sentence_splitter": "rules", **more,
    }  # fmt: skip


def pretraining_flags(text: Path) -> dict[str, Any]:
    """Returns flags that make examples of the text."""
    return {
        "input_file": f"{text}/*.txt", "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": "false", "dupe_factor": 2,
    }  # fmt: skip


def assert_makes_the_same(module: str, flags: dict[str, Any], runner: dict[str, str],
                          out: Path) -> None:  # fmt: skip
    """Runs a program on one machine, if that was not done yet, and on a runner."""
    alone = out.with_name(f"{out.name}-alone")
    if not alone.exists():
        assert_success(run_program(module, output_dir=alone, **flags))
    result = run_program(module, output_dir=out, **flags, **runner)
    assert_success(result)
    assert result.stderr == ""
    assert folder_bytes(out) == folder_bytes(alone)
    assert_says_nothing_of_notes(result.stdout)


def assert_says_nothing_of_notes(*texts: str) -> None:
    for text in texts:
        assert not [word for word in WORDS_OF_NOTES if word in text]


@contextlib.contextmanager
def at_work(module: str, **flags: Any) -> Iterator[subprocess.Popen[str]]:
    """Starts a program, whose process is yielded; it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments(**flags)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(what: str, has_happened: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Returns when something has happened that happens while a program works."""
    limit = time.monotonic() + HANG_SECONDS
    while not has_happened():
        assert process.poll() is None, f"ended before {what}: {process.communicate()}"
        assert time.monotonic() < limit, f"{what} has not happened"
        time.sleep(0.1)


def formatted_notes(out: Path) -> int:
    """Returns how many notes workers have formatted for a run that goes on."""
    found = 0
    for path in out.glob(f"{work_folder.STAGING_NAME}/runs/*/{beam_progress.PREFIX}*.json"):
        with contextlib.suppress(FileNotFoundError):
            found += json.loads(path.read_text()).get("notes", 0)
    return found


def kill_worker(nodes: Sequence[Node]) -> None:
    """Ends the worker process that has done the most, as the kernel does for memory."""
    os.kill(max(_workers(nodes), key=_cpu_ticks), signal.SIGKILL)


def kill_workers(nodes: Sequence[Node]) -> None:
    """Ends every worker process, so that those which have work to do are among them."""
    for pid in _workers(nodes):
        os.kill(pid, signal.SIGKILL)


def _workers(nodes: Sequence[Node]) -> list[int]:
    copies = [
        pid for node in nodes for pid in node.processes()
        if b"data_prep.beam.worker_source" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]  # fmt: skip
    return [pid for pid in copies if int(_stat(pid)[1]) in copies]


def _cpu_ticks(pid: int) -> int:
    return int(_stat(pid)[11]) + int(_stat(pid)[12])


def _stat(pid: int) -> list[str]:
    """Returns what the kernel says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
