"""What making two lengths of examples in one pass over the text saves against two runs.

    python -m tests.benchmarks.two_lengths [--words 1300000] [--repeats 5] [--text text.txt --vocab_file vocab.txt]

The program is run whole: once for 128 and 512 together, once for each alone, in turn; the figures are
medians and their ratio, of one run of this script. Other work on the machine spoils elapsed times, so
CPU time stands beside.
"""  # noqa: E501

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.create_pretraining_data import (
    PROGRAM,
    children_cpu,
    seconds,
    text_and_vocabulary,
    text_parser,
)

LENGTHS = {128: 20, 512: 77}


def main() -> None:
    parser = text_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dupe_factor", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    text, vocab = text_and_vocabulary(folder, options)
    flags = [
        f"--input_file={text}", f"--vocab_file={vocab}", "--do_lower_case=false",
        f"--dupe_factor={options.dupe_factor}",
    ]  # fmt: skip
    ways = {"one pass": [LENGTHS], "two runs": [{length: LENGTHS[length]} for length in LENGTHS]}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for repeat in range(options.repeats + 1):
        contents = set()
        for way, runs in ways.items():
            used, elapsed = children_cpu(), sum(make(folder / "out", run, flags) for run in runs)
            contents.add(tuple(path.read_bytes() for path in sorted(folder.glob("out/*/*d"))))
            shutil.rmtree(folder / "out")
            # The first time compiles loops and fills the system's cache.
            if repeat:
                found[way].append((elapsed, children_cpu() - used))
        if len(contents) > 1:
            raise SystemExit("one pass made other examples than two runs")
    for kind, name in enumerate(("elapsed", "CPU time")):
        one, two = (statistics.median(times[kind] for times in found[way]) for way in ways)
        print(f"{name}: one pass {one:.2f} s, two runs {two:.2f} s, {two / one:.2f} x")


def make(folder: Path, lengths: dict[int, int], flags: list[str]) -> float:
    """Makes the examples of lengths together; returns the seconds that the program took."""
    return seconds(
        PROGRAM, *flags, "--max_seq_length=" + ",".join(map(str, lengths)),
        "--max_predictions_per_seq=" + ",".join(map(str, lengths.values())),
        "--output_dir=" + ",".join(str(folder / str(length)) for length in lengths),
    )  # fmt: skip


if __name__ == "__main__":
    main()
