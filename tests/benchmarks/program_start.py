"""How long a program imports and how much memory that takes, with what libraries import along.

  python -m tests.benchmarks.program_start [--repeats=5]

TensorFlow would import Keras, and spaCy PyTorch where it is installed. Rows of one run, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from tests.benchmarks.processor import processor

_IMPORT = """
import contextlib, resource, time
from data_prep.common import imports
begin = time.process_time()
if not {refuses}:
    imports.without = lambda *_: contextlib.nullcontext()
{what}
print(time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
_IMPORTS = {
    "TensorFlow, Keras": "import bert_clinical.nn.tensorflow",
    "spaCy, PyTorch": (
        "with imports.without('torch'):\n    import data_prep.sentences.spacy_splitter"
    ),
}


def main() -> None:
    """Prints medians of processor seconds and MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(processor())
    for what, code in _IMPORTS.items():
        found: dict[bool, list[list[float]]] = {True: [], False: []}
        for _ in range(repeats):
            for refuses, answers in found.items():
                command = [sys.executable, "-c", _IMPORT.format(refuses=refuses, what=code)]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                answers.append([float(number) for number in said.split()])
        for refuses, answers in found.items():
            seconds, memory = map(statistics.median, zip(*answers, strict=True))
            how = "without" if refuses else "with"
            print(f"{what}: {how} the latter {seconds:.2f} s, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
