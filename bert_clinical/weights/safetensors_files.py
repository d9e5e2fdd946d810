"""Weights in safetensors files, one tensor in memory at a time.

The library reads them. Its writer wants all tensors at once; ours streams, so that a conversion
needs little more memory than its largest tensor.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from data_prep.common.errors import UsageError, UserError

DTYPES: dict[str, tuple[str, np.dtype]] = {
    "float32": ("F32", np.dtype(np.float32)),
    "float16": ("F16", np.dtype(np.float16)),
    "bfloat16": ("BF16", np.dtype(ml_dtypes.bfloat16)),
}

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_FLOATS = ("F64", "F32", "F16", "BF16")


def parse_size(text: str) -> int:
    """Returns the bytes of a size as transformers writes it: `5GB`, `200MB`, `1GiB`, `4096`.

    Raises:
      UsageError: it is no such size, or zero.
    """
    match = re.fullmatch(r"(\d+)\s*([KMG]?I?B)?", text.strip().upper())
    size = int(match[1]) * _UNITS.get(match[2] or "", 0) if match else 0
    if size < 1:
        raise UsageError(f"--max_shard_size: found {text!r}, expected a size as 5GB, 200MB or 1GiB")
    return size


def split_into_shards(sizes: Mapping[str, int], max_shard_bytes: int) -> list[list[str]]:
    """Returns the names in shards that stay within a size; a tensor larger than that stands alone.

    Args:
      sizes: bytes of each tensor by name; the order is kept.
      max_shard_bytes: the limit.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def write_weights(
    folder: Path,
    shapes: Mapping[str, Sequence[int]],
    tensors: Iterable[tuple[str, np.ndarray]],
    *,
    dtype: str = "float32",
    max_shard_bytes: int = _UNITS["GB"] * 50,
) -> list[str]:
    """Writes `model.safetensors`, or its shards and their index, and returns the files' names.

    Args:
      folder: where to; nothing here is atomic, the folder as a whole is to be.
      shapes: every tensor's shape by name.
      tensors: names and float32 arrays in the order of `shapes`; read one at a time.
      dtype: key of `DTYPES` to store them in.
      max_shard_bytes: most bytes of tensors in a file.

    Raises:
      UserError: a tensor holds a number that is not finite, or too large for `dtype`.
    """
    code, stored = DTYPES[dtype]
    sizes = {name: int(np.prod(shape)) * stored.itemsize for name, shape in shapes.items()}
    shards = split_into_shards(sizes, max_shard_bytes)
    names = [
        f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    if len(shards) == 1:
        names = [WEIGHTS_FILE]
    stream_of_tensors = iter(tensors)
    weight_map = {}
    for file_name, members in zip(names, shards, strict=True):
        with (folder / file_name).open("wb") as stream:
            stream.write(_header(members, shapes, sizes, code))
            for expected in members:
                name, tensor = next(stream_of_tensors)
                if name != expected or tuple(tensor.shape) != tuple(shapes[name]):
                    raise ValueError(f"tensor {name} {tensor.shape} where {expected} was announced")
                stream.write(_stored(name, tensor, stored).reshape(-1).view(np.uint8).data)
                weight_map[name] = file_name
    if len(shards) == 1:
        return names
    index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [*names, INDEX_FILE]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a safetensors file's tensors by name, in the order of the file.

    Raises:
      UserError: the file is truncated or no safetensors file.
    """
    with _opened(path) as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.offset_keys()}


def iterate_weights(path: Path, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields tensors of a safetensors file as float32, one in memory at a time.

    Raises:
      UserError: the file is truncated, or a tensor holds no floating-point numbers.
    """
    with _opened(path) as tensors:
        for name in names:
            code = tensors.get_slice(name).get_dtype()
            if code not in _FLOATS:
                raise UserError(f"{path}: {name} is {code}, expected one of {', '.join(_FLOATS)}")
            yield name, tensors.get_tensor(name).astype(np.float32, copy=False)


def _opened(path: Path) -> safe_open:
    try:
        # A mapped file would count as this process's memory, tensor by tensor.
        return safe_open(path, framework="np", backend="pread")
    except SafetensorError:
        # The library's message can quote the file.
        raise UserError(
            f"{path}: found {path.stat().st_size:,} bytes that are no complete safetensors file; "
            "copy or download it again"
        ) from None


def _header(
    members: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
    sizes: Mapping[str, int],
    code: str,
) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in members:
        entries[name] = {
            "dtype": code,
            "shape": list(shapes[name]),
            "data_offsets": [offset, offset + sizes[name]],
        }
        offset += sizes[name]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _stored(name: str, tensor: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(tensor.astype(dtype, copy=False))
    if not np.isfinite(values).all():
        if np.isfinite(tensor).all():
            raise UserError(f"{name} holds numbers too large for {dtype.name}; use float32")
        raise UserError(
            f"{name} holds NaN or infinity; expected a checkpoint from before training diverged"
        )
    return values
