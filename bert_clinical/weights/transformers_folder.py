"""Reads the weights of a transformers folder, from safetensors or from PyTorch's own format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert_clinical.weights import in_pytorch, pytorch_process
from bert_clinical.weights.pytorch_process import PyTorchProcess
from bert_clinical.weights.safetensors_files import (
    INDEX_FILE,
    WEIGHTS_FILE,
    iterate_weights,
    read_shapes,
)
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.paths import require_readable_file

_SHARD_NAME = re.compile(r"[\w.-]{1,255}", re.ASCII)
_TORCH_FILE = "pytorch_model.bin"
_TORCH_INDEX = "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class FolderWeights:
    """The weights of a folder.

    Attributes:
      shapes: of every weight by its name in the files.
      read: yields names and float32 arrays for names.
      files: where they lie.
    """

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[Iterable[str]], Iterator[tuple[str, np.ndarray]]]
    files: tuple[Path, ...]


def open_weights(folder: Path) -> FolderWeights:
    """Finds the weights of a folder; safetensors first.

    Raises:
      UserError: there are none, a shard is missing, a file is truncated or corrupt, or PyTorch is
        needed and not installed.
    """
    for single, index, read in (
        (WEIGHTS_FILE, INDEX_FILE, _open_safetensors),
        (_TORCH_FILE, _TORCH_INDEX, _open_torch),
    ):
        files = _shards(folder, single, index)
        if files:
            return read(files)
    other = [name for name in ("tf_model.h5", "flax_model.msgpack") if (folder / name).is_file()]
    found = f"only {other[0]}" if other else "no weights"
    raise UserError(f"{folder}: holds {found}; expected {WEIGHTS_FILE} or {_TORCH_FILE}")


def _shards(folder: Path, single: str, index: str) -> tuple[Path, ...]:
    if (folder / single).is_file():
        return (folder / single,)
    if not (folder / index).is_file():
        return ()
    weight_map = read_json_object(folder / index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{folder / index}: has no weight_map; copy or download it again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if not _SHARD_NAME.fullmatch(name):
            raise UserError(f"{folder / index}: names what is no file; copy or download it again")
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"{folder}: {index} names {name}, which is not there; download it")
    return tuple(folder / name for name in names)


def _open_safetensors(files: tuple[Path, ...]) -> FolderWeights:
    shapes_of = {path: read_shapes(path) for path in files}

    def read(names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        wanted = set(names)
        for path, shapes in shapes_of.items():
            yield from iterate_weights(path, [name for name in shapes if name in wanted])

    merged = {name: shape for shapes in shapes_of.values() for name, shape in shapes.items()}
    return FolderWeights(merged, read, files)


def _open_torch(files: tuple[Path, ...]) -> FolderWeights:
    if not pytorch_process.is_available("torch"):
        raise UserError(
            f"{files[0]}: PyTorch is needed to read this format and is not installed; run pip "
            f"install torch, or save the model as {WEIGHTS_FILE}"
        )
    for path in files:
        require_readable_file(path, "transformers_dir")
    process = PyTorchProcess(
        f"{files[0]}: reading it in PyTorch", f"save the model as {WEIGHTS_FILE}, which needs none"
    )

    def read(names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        yield from process.iterate(in_pytorch.tensors, files, list(names))

    return FolderWeights(process.call(in_pytorch.tensor_shapes, files), read, files)
