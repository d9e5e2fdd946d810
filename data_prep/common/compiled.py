"""Compiles the inner loops with numba, once per machine rather than once per run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compiles `function` at its first call and keeps the result on disk where that is possible.

    numba keeps it beside the source or in the user's cache folder and replaces its files in one
    step, so processes may share them. Where neither folder can be written, every process compiles
    for itself.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


def compiled_part(function: _F) -> _F:
    """Compiles a function that only compiled functions call: half the time without wrappers."""
    return numba.njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
