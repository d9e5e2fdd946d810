"""TFRecord files of pretraining examples: what an example holds, writing, reading, the sidecar.

Needs no TensorFlow. A path that ends in `.gz` is gzip, which TensorFlow calls `GZIP`.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import google_crc32c
import numpy as np

from data_prep.common import atomic_files
from data_prep.common.program import UserError, os_error_message

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CRC.size
_MASK_DELTA = 0xA282EAD8

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


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


def masked_crc(data: bytes) -> int:
    """Returns the checksum that TFRecord files keep: CRC-32C, rotated and shifted."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    """Returns a record as it stands in a TFRecord file, with its length and checksums."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _CRC.pack(masked_crc(length)), record, _CRC.pack(masked_crc(record))))


@contextlib.contextmanager
def open_outputs(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[IO[bytes]]]:
    """Opens TFRecord files for writing; they get their names together, when the block ends well.

    A sidecar that stands from an earlier run is removed before, so that it never describes
    another file. After an exception nothing is left, and what stood under the names stays.

    Args:
      paths: the final names; their folders must exist.
    """
    with contextlib.ExitStack() as stack:
        if paths:
            stack.enter_context(atomic_files.naming(paths[0]))
        files = [stack.enter_context(atomic_files.PartialFile(path)) for path in paths]
        streams = [
            _compressing(file.stream) if _is_gzip(file.path) else file.stream for file in files
        ]
        yield streams
        for file, stream in zip(files, streams, strict=True):
            if stream is not file.stream:
                stream.close()
            file.finish()
        for file in files:
            sidecar_path(file.path).unlink(missing_ok=True)
            file.commit()


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yields the records of a TFRecord file after checking their checksums.

    Raises:
      UserError: a record is cut short or corrupt; names file, record (from 0) and byte offset
        (after decompression).
    """
    number = offset = 0

    def corrupt(what: str) -> UserError:
        return UserError(
            f"{path}: record {number} at byte {offset} {what}; make or fetch the file again"
        )

    try:
        with _open_for_reading(path) as stream:
            while header := stream.read(_HEADER_BYTES):
                if len(header) < _HEADER_BYTES:
                    raise corrupt("is cut short")
                length_bytes = header[: _LENGTH.size]
                if _CRC.unpack(header[_LENGTH.size :])[0] != masked_crc(length_bytes):
                    raise corrupt("has a length that does not match its checksum")
                (length,) = _LENGTH.unpack(length_bytes)
                body = stream.read(length + _CRC.size)
                if len(body) < length + _CRC.size:
                    raise corrupt("is cut short")
                record = body[:length]
                if _CRC.unpack(body[length:])[0] != masked_crc(record):
                    raise corrupt("has data that does not match its checksum")
                yield record
                number += 1
                offset += _HEADER_BYTES + len(body)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise corrupt("cannot be decompressed: the gzip file is cut short or corrupt") from None
    except OSError as error:
        raise UserError(f"{path}: {os_error_message(error)}") from None


def parse_pretraining_example(
    record: bytes, features: Mapping[str, Feature]
) -> dict[str, np.ndarray]:
    """Returns the features of a serialized `tf.train.Example`.

    Args:
      record: one record of a TFRecord file.
      features: what is expected, as from `pretraining_features`.

    Returns:
      For each name of `features` an array `dtype [length]`.

    Raises:
      UserError: the record is no example, or a feature is missing or has another length or type.
    """
    try:
        found = _feature_map(record)
        parsed = {}
        for name, (dtype, length) in features.items():
            if name not in found:
                raise UserError(f"the example has no feature {name}; it has {', '.join(found)}")
            values = _feature_values(found[name], dtype)
            if len(values) != length:
                raise UserError(
                    f"the example's {name} has {len(values)} values; expected {length}; "
                    "--max_seq_length and --max_predictions_per_seq must be as when it was made"
                )
            parsed[name] = values
    except (IndexError, ValueError, struct.error):
        raise UserError("the record is not a tf.train.Example") from None
    return parsed


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


def _open_for_reading(path: str | os.PathLike[str]) -> IO[bytes]:
    if _is_gzip(path):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return Path(path).open("rb")


def _feature_map(example: bytes) -> dict[str, bytes]:
    """Returns the serialized `Feature` of each name in a serialized `Example`."""
    found: dict[str, bytes] = {}
    for features in _fields(example, 1):
        for entry in _fields(features, 1):
            name = b"".join(_fields(entry, 1)).decode()
            found[name] = b"".join(_fields(entry, 2))
    return found


def _feature_values(feature: bytes, dtype: str) -> np.ndarray:
    if dtype == "float32":
        values = b"".join(part for numbers in _fields(feature, 2) for part in _fields(numbers, 1))
        return np.frombuffer(values, "<f4").astype(np.float32)
    packed = b"".join(part for numbers in _fields(feature, 3) for part in _fields(numbers, 1))
    integers, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        integers.append(value - (1 << 64) if value >> 63 else value)
    return np.array(integers, np.int64)


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """Yields the contents of a message's fields of one number, whatever their wire type."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        start = at
        if kind == _LENGTH_DELIMITED:
            size, start = _varint(message, at)
            at = start + size
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("unknown wire type")
        if at > len(message):
            raise ValueError("cut short")
        if key >> 3 == number:
            yield message[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Returns the varint at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
