"""Thousands of damaged files of each kind; started by hand."""

from __future__ import annotations

import argparse
import logging
import sys

from tests.damaged.formats import FORMATS
from tests.damaged.trial import distinct, run_trial


def main() -> None:
    """Runs the trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds with this in their names")
    values = parser.parse_args()
    logging.disable(logging.CRITICAL)
    tried = faults = 0
    for kind in FORMATS:
        if values.only not in kind.name:
            continue
        trial = run_trial(kind, values.mutations, values.seed)
        tried += trial.outcomes.total()
        faults += len(trial.faults)
        print(f"{kind.name}: {dict(trial.outcomes)}, {len(trial.faults)} badly met", flush=True)
        for fault in distinct(trial.faults):
            print(f"    {fault}", flush=True)
    print(f"{tried} mutations, {faults} badly met")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
