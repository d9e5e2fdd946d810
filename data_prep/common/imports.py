"""Imports of libraries without what they would import along and nothing here needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Refuses packages to libraries that import them where they can, and do without elsewhere.

    Where the packages lie can be found out all the same. What is imported already stays; what is
    not can be imported after the block.

    Args:
      *packages: names at the top.
    """
    refusal = _Refusal(packages)
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)


class _Refusal(MetaPathFinder):
    """Finds packages as Python does, and does not run them."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._refuse  # type: ignore[method-assign]
        return spec

    def _refuse(self, module: ModuleType) -> None:
        raise ImportError(f"{module.__name__} is not imported along", name=module.__name__)
