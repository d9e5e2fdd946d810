"""The files of extracted features: JSON lines as Google writes them, `.npy`, and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.common.atomic_files import PartialFile, atomic_write, naming

VECTOR_SUFFIXES = (".npy", ".parquet")

_DECIMALS = 6

Write = Callable[[Sequence[str], np.ndarray], None]
"""Takes row ids and their vectors, float32 [rows, dimensions]."""


def json_line(index: int, tokens: Sequence[str], layers: Sequence[int], values: np.ndarray) -> str:
    """Returns the line for one text.

    Args:
      index: the text's number in the input, from 0.
      tokens: its WordPieces, special ones included.
      layers: as they were asked for.
      values: float32 [tokens, layers, hidden].

    Source: google-research/bert extract_features.py.
    """
    # Exact in float64, so these are the numbers that `round` makes one by one.
    rounded = np.round(values.astype(np.float64), _DECIMALS).tolist()
    features = [
        {
            "token": token,
            "layers": [
                {"index": layer, "values": numbers}
                for layer, numbers in zip(layers, of_token, strict=True)
            ],
        }
        for token, of_token in zip(tokens, rounded, strict=True)
    ]
    return json.dumps({"linex_index": index, "features": features}) + "\n"


@contextmanager
def vector_file(
    path: Path, *, count: int, dimensions: int, about: Mapping[str, Any]
) -> Iterator[Write]:
    """Yields a function that appends vectors; the file gets its name when all are written.

    `.npy` has beside it `<name>.row_ids.csv`, whose lines are the array's rows; Parquet has the
    columns `row_id` and `vector`, and `about` in its metadata.

    Args:
      path: ends in one of `VECTOR_SUFFIXES`.
      count: how many vectors there will be.
      dimensions: of each.
      about: how the vectors were made.
    """
    opened = _npy_file if path.suffix.lower() == ".npy" else _parquet_file
    with opened(path, count, dimensions, about) as write:
        yield write


def row_ids_file(path: Path) -> Path:
    """Returns where the row ids of a `.npy` file stand."""
    return path.with_name(f"{path.stem}.row_ids.csv")


@contextmanager
def _npy_file(path: Path, count: int, dimensions: int, _: Mapping[str, Any]) -> Iterator[Write]:
    with naming(path), PartialFile(path) as array, PartialFile(row_ids_file(path), "w") as ids:
        rows = csv.writer(ids.stream, lineterminator="\n")
        rows.writerow(["row_id"])
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, dimensions)}
        np.lib.format.write_array_header_1_0(array.stream, header)

        def write(row_ids: Sequence[str], vectors: np.ndarray) -> None:
            array.stream.write(np.ascontiguousarray(vectors, "<f4").tobytes())
            rows.writerows([row_id] for row_id in row_ids)

        yield write
        ids.finish()
        array.finish()
        # An array never stands beside the ids of another one.
        path.unlink(missing_ok=True)
        ids.commit()
        array.commit()


@contextmanager
def _parquet_file(path: Path, _: int, dimensions: int, about: Mapping[str, Any]) -> Iterator[Write]:
    import pyarrow
    import pyarrow.parquet

    fields = [
        ("row_id", pyarrow.string()),
        ("vector", pyarrow.list_(pyarrow.float32(), dimensions)),
    ]
    schema = pyarrow.schema(fields, metadata={"bert_clinical": json.dumps(dict(about))})
    with atomic_write(path) as stream, pyarrow.parquet.ParquetWriter(stream, schema) as parquet:

        def write(row_ids: Sequence[str], vectors: np.ndarray) -> None:
            flat = pyarrow.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
            columns = [
                pyarrow.array(row_ids, pyarrow.string()),
                pyarrow.FixedSizeListArray.from_arrays(flat, dimensions),
            ]
            parquet.write_batch(pyarrow.record_batch(columns, schema=schema))

        yield write
