"""Proves on real engines that clusters make what one machine makes: `python -m tests.clusters`.

Arguments choose engines (flink, spark, prism; all unless given); what begins with a dash goes to
pytest. Fetches the engines into a cache at the first run, about 1.5 GB.
"""

from __future__ import annotations

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
    options = [argument for argument in arguments if argument.startswith("-")]
    chosen = [argument for argument in arguments if argument not in options] or list(_NEEDS)
    unknown = [name for name in chosen if name not in _NEEDS]
    if unknown:
        print(f"found {unknown[0]!r}; expected some of {', '.join(_NEEDS)}", file=sys.stderr)
        return 2
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
