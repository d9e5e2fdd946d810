"""Proves on real engines that clusters make what one machine makes: `python -m tests.clusters`.

The first arguments choose engines (flink, spark, prism), training by two nodes (training), SLURM's
jobs (slurm), all of them unless given; the others go to pytest.
With --if-possible, an engine that cannot run here is passed over, and why is said. The first run
fetches the engines into a cache, 1 GB.
"""

from __future__ import annotations

import itertools
import signal
import sys
from pathlib import Path

import pytest

from tests.clusters import installation, nodes, slurm

_NEEDS = {
    "flink": installation.why_no_java,
    "spark": installation.why_no_java,
    "prism": installation.why_no_go,
    "training": lambda: None,
    "slurm": slurm.why_none,
}

_IF_POSSIBLE = "--if-possible"


def main(arguments: list[str]) -> int:
    """Runs the cases of the engines; returns pytest's exit status."""
    chosen = list(itertools.takewhile(_NEEDS.__contains__, arguments))
    options = arguments[len(chosen) :]
    chosen = chosen or list(_NEEDS)
    if_possible = _IF_POSSIBLE in options
    options = [option for option in options if option != _IF_POSSIBLE]
    for name in list(chosen):
        reason = nodes.why_none() or _NEEDS[name]()
        if reason is not None:
            print(f"{name} cannot run here: {reason}", file=sys.stderr)
            if not if_possible:
                return 1
            chosen.remove(name)
    if not chosen:
        return 0
    # Ended in any way, it takes its nodes with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(__file__).parent
    return pytest.main(
        ["-n", "0", "-v", *(str(folder / f"{name}_cases.py") for name in chosen), *options]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
