"""Where the records of TFRecord files lie, so that any of them can be read at once."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert_clinical.tfrecords import frames
from bert_clinical.tfrecords.digests import identity
from data_prep.common import atomic_files, contents
from data_prep.common.errors import UserError, os_error_message
from data_prep.common.own_files import INDEX_NAME, UNPACKED_FOLDER

_log = logging.getLogger(__name__)

BLOCK_RECORDS = 256
"""Records that are read together: about 200 kB at length 128."""

CACHE_NAME = INDEX_NAME
_DIGEST_BYTES = 32
"""Of a SHA-256, which stands before the rest of the file."""


@dataclass(frozen=True)
class FileIndex:
    """The records of one file.

    Attributes:
      path: the file that the user named.
      data_path: the same file without compression.
      records: how many it holds.
      block_offsets: int64 [blocks + 1], where each block of `BLOCK_RECORDS` begins, and the end.
    """

    path: str
    data_path: str
    records: int
    block_offsets: np.ndarray

    @property
    def block_sizes(self) -> np.ndarray:
        """int64 [blocks], the records of each block."""
        sizes = np.full(len(self.block_offsets) - 1, BLOCK_RECORDS, np.int64)
        sizes[-1] = self.records - BLOCK_RECORDS * (len(sizes) - 1)
        return sizes


def index_files(paths: Sequence[str | os.PathLike[str]], cache_folder: Path) -> list[FileIndex]:
    """Returns the index of each file, from the cache where the file has not changed since.

    Args:
      paths: TFRecord files, plain or gzip, whatever their names.
      cache_folder: where the index and the unpacked gzip files are kept for the next start.

    Raises:
      UserError: a file is empty, unreadable or corrupt; names record and byte.
    """
    cache_path = cache_folder / CACHE_NAME
    known = _read_cache(cache_path)
    indexes, changed = [], False
    for path in map(str, paths):
        key = identity(path)
        data_path = _unpack(path, key, cache_folder) if _is_gzip(path) else path
        if key not in known:
            known[key] = _walk(path, data_path)
            changed = True
        indexes.append(FileIndex(path, data_path, *known[key]))
    if changed:
        _write_cache(cache_path, known)
    return indexes


def _is_gzip(path: str) -> bool:
    content = contents.look_at(path)
    contents.require_no_zlib(path, content)
    return content.is_gzip


def _walk(path: str, data_path: str) -> tuple[int, np.ndarray]:
    size = Path(data_path).stat().st_size
    if size == 0:
        raise UserError(f"{path}: the file is empty; expected TFRecords of create_pretraining_data")
    if size > 1 << 30:
        _log.info("Looking for the records of %s (%.1f GB), once", path, size / 1e9)
    try:
        data = np.memmap(data_path, np.uint8, "r")
    except OSError as error:
        raise UserError(f"{path}: {os_error_message(error)}") from None
    starts, records, status, offset = frames.count_records(data, BLOCK_RECORDS)
    if status:
        raise UserError(f"{path}: record {records} at byte {offset}: {frames.ERRORS[status]}")
    return records, np.append(starts, offset)


def _unpack(path: str, key: str, cache_folder: Path) -> str:
    """Returns a plain copy of a gzip file: within one there is no reading from the middle."""
    folder = cache_folder / UNPACKED_FOLDER
    target = folder / f"{Path(path).name.removesuffix('.gz')}-{key[:12]}"
    if target.exists():
        return str(target)
    _log.info("Unpacking %s to %s, to read it in random order", path, target)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(path, "rb") as packed, atomic_files.atomic_write(target) as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(
            f"{path}: cannot be unpacked, the gzip file is cut short or corrupt; copy or make it "
            "again"
        ) from None
    return str(target)


def _read_cache(path: Path) -> dict[str, tuple[int, np.ndarray]]:
    """Returns records and block offsets by the files' identities."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    # Neither ZIP nor NumPy finds all damage, and what they make of the rest is any exception.
    if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
        _log.info("%s is damaged and is made again", path)
        return {}
    with np.load(io.BytesIO(content[_DIGEST_BYTES:]), allow_pickle=False) as saved:
        ends = np.cumsum(saved["blocks"] + 1)
        parts = np.split(saved["offsets"], ends[:-1])
        return {
            str(key): (int(records), offsets)
            for key, records, offsets in zip(saved["keys"], saved["records"], parts, strict=True)
        }


def _write_cache(path: Path, known: dict[str, tuple[int, np.ndarray]]) -> None:
    content = io.BytesIO()
    np.savez(
        content,
        keys=np.array(list(known)),
        records=np.array([records for records, _ in known.values()], np.int64),
        blocks=np.array([len(offsets) - 1 for _, offsets in known.values()], np.int64),
        offsets=np.concatenate([offsets for _, offsets in known.values()]),
    )
    with atomic_files.atomic_write(path) as stream:
        stream.write(hashlib.sha256(content.getbuffer()).digest())
        stream.write(content.getbuffer())
