"""Proves on real engines that clusters make what one machine makes: `python -m tests.clusters`.

The first arguments choose engines (flink, spark, prism; all unless given), the others go to pytest.
Fetches the engines into a cache at the first run, about 1.5 GB.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from tests.clusters import installation, nodes

_NEEDS = {
    "flink": installation.why_no_java,
    "spark": installation.why_no_java,
    "prism": installation.why_no_go,
}


def main(arguments: list[str]) -> int:
    """Runs the cases of the engines; returns pytest's exit status."""
    chosen = list(itertools.takewhile(_NEEDS.__contains__, arguments))
    options = arguments[len(chosen) :]
    chosen = chosen or list(_NEEDS)
    for name in chosen:
        reason = nodes.why_none() or _NEEDS[name]()
        if reason is not None:
            print(f"{name} cannot run here: {reason}", file=sys.stderr)
            return 1
    folder = Path(__file__).parent
    return pytest.main(
        ["-n", "0", "-v", *(str(folder / f"{name}_cases.py") for name in chosen), *options]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
