"""Keeps TensorFlow and PyTorch out of one process, in the tests and in all that they start.

Python imports a module of this name at its start; conftest puts this folder on PYTHONPATH. A
process that has one of the two and imports the other ends at once, with Triton or without it. An
exception would not do: libraries that can use either of the two catch it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

EXIT_STATUS = 97
_OTHER = {"tensorflow": "torch", "torch": "tensorflow"}


class Guard(MetaPathFinder):
    """Calls `before_import` with "tensorflow" or "torch" before that package is imported."""

    def __init__(self, before_import: Callable[[str], None]) -> None:
        self._before_import = before_import

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds the two packages as Python does, and no others."""
        if name not in _OTHER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def guarded(module: ModuleType) -> None:
                self._before_import(name)
                execute(module)

            spec.loader.exec_module = guarded  # type: ignore[method-assign]
        return spec


def end_beside_the_other(name: str) -> None:
    """Ends a process that imports `name` and has the other package."""
    if sys.modules.get(_OTHER[name]) is not None:
        os.write(2, f"{_OTHER[name]} and {name} in one process: {sys.argv}\n".encode())
        os._exit(EXIT_STATUS)


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, Guard(end_beside_the_other))
