"""Calls what stands in `in_transformers` in the process that has PyTorch."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from bert_clinical.weights.pytorch_process import PyTorchProcess, is_available
from tests import in_transformers

needs_transformers = pytest.mark.skipif(
    not is_available(), reason="PyTorch and transformers are not installed"
)


@functools.cache
def _process() -> PyTorchProcess:
    return PyTorchProcess("transformers in a test", "see the test")


def theirs(function: str, *args: Any, **kwargs: Any) -> Any:
    """Returns what a function of `in_transformers` returns; one process serves all tests."""
    return _process().call(getattr(in_transformers, function), *args, **kwargs)
