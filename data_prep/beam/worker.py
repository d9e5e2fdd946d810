"""A worker of `beam_worker_pool`: Beam's own, ready before it is asked for.

It imports what workers need, waits for one line that says which engine to work for, and ends when
its standard input does: with its pool, however that ends.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading

from apache_beam.runners.worker import sdk_worker_main


def main(modules: list[str]) -> None:
    """Imports `modules`, waits for the environment that Beam expects of a worker, and works."""
    for module in modules:
        importlib.import_module(module)
    line = sys.stdin.readline()
    if not line:
        return
    os.environ.update(json.loads(line))
    threading.Thread(target=_end_with_pool, daemon=True).start()
    sdk_worker_main.main([])


def _end_with_pool() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
