"""Keeps instances, rows of one size, until all are made, then gives them in their final order.

What fits the buffer stays there. More goes to disk, and comes back by two sequential passes rather
than by a random access for each instance. The first pass deals the instances out to the regions of
a second file, each as large as half the buffer; the second pass reads region by region.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep.common import atomic_files
from data_prep.common.errors import UserError

DEFAULT_BUFFER_BYTES = 256 << 20
_ROWS_PER_BATCH = 8192


class InstanceStore:
    """Instances as rows of one size, in the order of their making; a context manager.

    Its files have no name, so that nothing of them is left when the process ends.

    Args:
      width: numbers in a row, as `schema.instance_width` tells.
      dtype: of a number.
      folder: where instances go that do not fit the buffer.
      buffer_bytes: size of the buffer; memory is taken as it fills.
    """

    def __init__(
        self,
        *,
        width: int,
        dtype: Any,
        folder: str | os.PathLike[str],
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    ) -> None:
        row_bytes = width * np.dtype(dtype).itemsize
        self._buffer = np.empty((max(buffer_bytes // row_bytes, 2), width), dtype)
        self._row_bytes = row_bytes
        self._folder = Path(folder)
        self._in_buffer = 0
        self._on_disk = 0
        self._files = contextlib.ExitStack()
        self._spill: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._on_disk + self._in_buffer

    def __enter__(self) -> InstanceStore:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            # What could not be flushed to a file without a name is lost with it anyway.
            self._files.close()

    def free_rows(self) -> np.ndarray:
        """Returns rows to be filled from the first on; `add` says how many were."""
        if self._in_buffer == len(self._buffer):
            self._write_buffer()
        return self._buffer[self._in_buffer : self._in_buffer + _ROWS_PER_BATCH]

    def add(self, count: int) -> None:
        """Counts the first rows of the last `free_rows` as instances."""
        self._in_buffer += count

    def in_order(self, order: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields `(instances, selection)`: instances[selection] are the next ones in the order.

        Args:
          order: uint32 [instances], for each place of the final order which instance stands there.

        Yields:
          instances `[any, width]` and selection int64 [at most 8192]; both hold only until the
          next ones are asked for.
        """
        if self._spill is None:
            yield from _batches(self._buffer, order)
            return
        self._write_buffer()
        regions = self._deal_out(order)
        region_rows = len(self._buffer) // 2
        for start in range(0, len(order), region_rows):
            wanted = order[start : start + region_rows]
            rows = self._read(regions, start, len(wanted), self._buffer[: len(wanted)])
            # The region holds its instances from the last made to the first.
            place = np.empty(len(wanted), np.int64)
            place[np.argsort(wanted)[::-1]] = np.arange(len(wanted))
            yield from _batches(rows, place)

    def _deal_out(self, order: np.ndarray) -> IO[bytes]:
        """Moves every instance to its region of a second file, the last made first.

        The first file is read from its end and cut, so that both together stay about one file's
        size on disk.
        """
        spill = self._spill
        if spill is None:
            raise ValueError("nothing was written to disk")
        region_rows = len(self._buffer) // 2
        destination = np.empty(len(order), np.uint32)
        destination[order] = np.arange(len(order), dtype=np.uint32)
        filled = np.arange(0, len(order), region_rows, dtype=np.int64)
        regions = self._new_file()
        end = self._on_disk
        while end:
            start = max(end - region_rows, 0)
            rows = self._read(spill, start, end - start, self._buffer[: end - start])
            region = destination[start:end] // region_rows
            by_region = np.argsort(region[::-1], kind="stable")
            numbers, counts = np.unique(region, return_counts=True)
            first = 0
            for number, count in zip(numbers, counts, strict=True):
                chosen = end - start - 1 - by_region[first : first + count]
                self._write(regions, int(filled[number]), rows[chosen])
                filled[number] += count
                first += count
            spill.truncate(start * self._row_bytes)
            end = start
        return regions

    def _write_buffer(self) -> None:
        if self._spill is None:
            self._spill = self._new_file()
        self._write(self._spill, self._on_disk, self._buffer[: self._in_buffer])
        self._on_disk += self._in_buffer
        self._in_buffer = 0

    def _new_file(self) -> IO[bytes]:
        return self._files.enter_context(tempfile.TemporaryFile(dir=self._folder, buffering=0))

    def _write(self, file: IO[bytes], row: int, rows: np.ndarray) -> None:
        content = rows.data.cast("B")
        file.seek(row * self._row_bytes)
        with atomic_files.naming(self._folder):
            while content:
                content = content[file.write(content) :]

    def _read(self, file: Any, row: int, count: int, into: np.ndarray) -> np.ndarray:
        content = into[:count].data.cast("B")
        file.seek(row * self._row_bytes)
        while content:
            got = file.readinto(content)
            if not got:
                raise UserError(f"{self._folder}: temporary data ended early; check the disk")
            content = content[got:]
        return into[:count]


def _batches(
    instances: np.ndarray, selection: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(selection), _ROWS_PER_BATCH):
        yield instances, selection[start : start + _ROWS_PER_BATCH].astype(np.int64)
