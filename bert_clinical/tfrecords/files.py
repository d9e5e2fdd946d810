"""TFRecord files of pretraining examples: what an example holds, where it is written, the sidecar.

Needs no TensorFlow. A path that ends in `.gz` is gzip, which TensorFlow calls `GZIP`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from data_prep.common import atomic_files
from data_prep.common.program import UserError


class Feature(NamedTuple):
    """One feature of an example: `dtype` is "int64" or "float32", `length` its number of values."""

    dtype: str
    length: int


def pretraining_features(max_seq_length: int, max_predictions_per_seq: int) -> dict[str, Feature]:
    """Returns what every pretraining example holds, by name.

    Args:
      max_seq_length: WordPieces in a sequence, padding included.
      max_predictions_per_seq: masked positions in a sequence, padding included.
    """
    return {
        "input_ids": Feature("int64", max_seq_length),
        "input_mask": Feature("int64", max_seq_length),
        "segment_ids": Feature("int64", max_seq_length),
        "masked_lm_positions": Feature("int64", max_predictions_per_seq),
        "masked_lm_ids": Feature("int64", max_predictions_per_seq),
        "masked_lm_weights": Feature("float32", max_predictions_per_seq),
        "next_sentence_labels": Feature("int64", 1),
    }


@contextlib.contextmanager
def open_outputs(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[IO[bytes]]]:
    """Opens TFRecord files for writing; they get their names together, when the block ends well.

    A sidecar that stands from an earlier run is removed before, so that it never describes
    another file. After an exception nothing is left, and what stood under the names stays.

    Args:
      paths: the final names; their folders must exist.
    """
    partials = [atomic_files.partial_path(path) for path in paths]
    files: list[IO[bytes]] = []
    streams: list[IO[bytes]] = []
    try:
        with contextlib.ExitStack() as stack:
            for path, partial in zip(paths, partials, strict=True):
                files.append(stack.enter_context(partial.open("wb")))
                streams.append(_compressing(files[-1]) if _is_gzip(path) else files[-1])
            yield streams
            for stream, file in zip(streams, files, strict=True):
                if stream is not file:
                    stream.close()
                file.flush()
                os.fsync(file.fileno())
        for path in paths:
            sidecar_path(path).unlink(missing_ok=True)
            atomic_files.commit(path)
    except BaseException as error:
        for partial in partials[: len(files)]:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            # A failed write does not say which file it was.
            raise OSError(error.errno, error.strerror, os.fspath(paths[0])) from None
        raise


def sidecar_path(tfrecord_path: str | os.PathLike[str]) -> Path:
    """Returns where the description of a TFRecord file stands: `<path>.json`."""
    path = Path(tfrecord_path)
    return path.with_name(path.name + ".json")


def write_sidecar(tfrecord_path: str | os.PathLike[str], description: Mapping[str, Any]) -> None:
    """Writes the description of a TFRecord file beside it, complete or not at all."""
    atomic_files.write_json(sidecar_path(tfrecord_path), description)


def read_sidecar(tfrecord_path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Returns the description that stands beside a TFRecord file, None where there is none.

    Raises:
      UserError: it is not a JSON object.
    """
    path = sidecar_path(tfrecord_path)
    try:
        return parse_sidecar(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None


def parse_sidecar(content: bytes, path: str) -> dict[str, Any]:
    """Returns the description that a sidecar holds.

    Args:
      content: of the file.
      path: of the file, for the message.

    Raises:
      UserError: it is not a JSON object.
    """
    try:
        description = json.loads(content)
    except ValueError:
        description = None
    if not isinstance(description, dict):
        raise UserError(f"{path}: not a JSON object; remove it, or make the TFRecord file again")
    return description


def _is_gzip(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(".gz")


def _compressing(file: IO[bytes]) -> IO[bytes]:
    # No name and no time in the header: the same examples are the same bytes.
    stream = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
    return cast(IO[bytes], stream)
