"""Batches of pretraining examples, each a pure function of the data, the seed and the step.

An epoch takes every record once: blocks of neighbouring records in random order, then the records
of some blocks together (a window) in random order. Reading stays near sequential, whatever the size
of the data, and a run can go on at any step without reading what lies before.

Differs: Google's program shuffles files, interleaves them and shuffles 100 records, anew at every
start; its order cannot be had again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.tfrecords.decoding import ExampleDecoder, Field
from bert_clinical.tfrecords.index import BLOCK_RECORDS, FileIndex, index_files
from bert_clinical.tfrecords.schema import pretraining_features
from data_prep.common.errors import UserError, os_error_message

WINDOW_BLOCKS = 32
"""Blocks whose records are shuffled together: 8,192 records, about 15 MB when decoded."""

_LENGTH_BLOCKS = 32
"""Blocks of all files from which the lengths of the sequences are told: 8,192 records."""

_SAMPLES, _SAMPLE_BYTES = 16, 4096
"""How much of a file its fingerprint reads."""

Batch = dict[str, np.ndarray]


class PretrainingData:
    """The examples of some TFRecord files.

    Args:
      paths: TFRecord files, plain or gzip.
      config: the model; bounds the ids.
      max_seq_length: values of `input_ids`, `input_mask` and `segment_ids`.
      max_predictions_per_seq: values of the masked LM features.
      cache_folder: where the index of the records is kept.

    Raises:
      UserError: a file is corrupt, or its first record is not of these lengths.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        config: BertConfig,
        max_seq_length: int,
        max_predictions_per_seq: int,
        cache_folder: Path,
    ) -> None:
        self.decoder = ExampleDecoder(_fields(config, max_seq_length, max_predictions_per_seq))
        self.files = index_files(paths, cache_folder)
        for index in range(len(self.files)):
            self._read_records(index, 0, 1)
        block_counts = [len(file.block_offsets) - 1 for file in self.files]
        self.block_sizes = np.concatenate([file.block_sizes for file in self.files])
        self._block_file = np.repeat(np.arange(len(self.files)), block_counts)
        self._block_in_file = np.concatenate([np.arange(count) for count in block_counts])
        self.records = int(self.block_sizes.sum())

    def fingerprint(self) -> str:
        """Returns what tells these examples from others: how many, and some bytes of each file.

        Names and folders do not count: machines that read copies get the same.
        """
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.records} {file.block_offsets[-1]}\n".encode())
            with Path(file.data_path).open("rb") as stream:
                for offset in file.block_offsets[:: max(1, len(file.block_offsets) // _SAMPLES)]:
                    stream.seek(int(offset))
                    digest.update(stream.read(_SAMPLE_BYTES))
        return (
            f"{self.records:,} examples in {len(self.files)} file(s), sha256 "
            f"{digest.hexdigest()[:12]}"
        )

    def read_blocks(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns integers and floats of all records of the blocks, a row each, in their order."""
        parts = [
            self._read_records(
                int(self._block_file[block]),
                int(self._block_in_file[block]),
                int(self.block_sizes[block]),
            )
            for block in blocks
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([p[1] for p in parts])

    def sample_lengths(self) -> np.ndarray:
        """Returns int64 [records], the real tokens of records from everywhere in the files."""
        blocks = np.linspace(0, len(self.block_sizes) - 1, _LENGTH_BLOCKS).astype(np.int64)
        masks = self.decoder.views(*self.read_blocks(np.unique(blocks)))["input_mask"]
        return np.count_nonzero(masks, axis=1)

    def _read_records(self, file: int, block: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Decodes the first `count` records of a file's block."""
        index: FileIndex = self.files[file]
        begin, end = (int(offset) for offset in index.block_offsets[block : block + 2])
        try:
            with Path(index.data_path).open("rb") as stream:
                stream.seek(begin)
                data = np.frombuffer(stream.read(end - begin), np.uint8)
        except OSError as error:
            raise UserError(f"{index.path}: {os_error_message(error)}") from None
        if len(data) < end - begin:
            raise UserError(f"{index.path}: the file became shorter while it was read")
        integers = np.zeros((count, self.decoder.int_width), np.int32)
        floats = np.zeros((count, self.decoder.float_width), np.float32)
        self.decoder.decode(
            data, count, integers, floats, path=index.path,
            first_record=block * BLOCK_RECORDS, first_byte=begin,
        )  # fmt: skip
        return integers, floats


class _Order:
    """Rows of `PretrainingData` in some order, by position from 0 on without an end."""

    def __init__(self, data: PretrainingData, seed: int | None) -> None:
        self._data = data
        self._seed = seed
        self._epoch = -1
        self._window: tuple[int, int] = (-1, -1)

    def rows(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns integers and floats of the positions [start, start + count)."""
        integers = np.empty((count, self._data.decoder.int_width), np.int32)
        floats = np.empty((count, self._data.decoder.float_width), np.float32)
        done = 0
        while done < count:
            epoch, place = divmod(start + done, self._data.records)
            window_start = self._load_window(epoch, place)
            first = place - window_start
            take = min(count - done, len(self._rows) - first)
            chosen = self._rows[first : first + take]
            integers[done : done + take] = self._integers[chosen]
            floats[done : done + take] = self._floats[chosen]
            done += take
        return integers, floats

    def _load_window(self, epoch: int, place: int) -> int:
        """Makes the window of a place in an epoch the current one; returns where it starts."""
        if epoch != self._epoch:
            count = len(self._data.block_sizes)
            self._blocks = (
                np.arange(count)
                if self._seed is None
                else _permutation(count, self._seed, epoch, 0)
            )
            sizes = self._data.block_sizes[self._blocks]
            self._starts = np.append(0, np.cumsum(sizes))[:-1][::WINDOW_BLOCKS]
            self._epoch = epoch
        window = int(np.searchsorted(self._starts, place, side="right")) - 1
        if self._window != (epoch, window):
            first = window * WINDOW_BLOCKS
            blocks = self._blocks[first : first + WINDOW_BLOCKS]
            self._integers, self._floats = self._data.read_blocks(blocks)
            count = len(self._integers)
            self._rows = (
                np.arange(count)
                if self._seed is None
                else _permutation(count, self._seed, epoch, window + 1)
            )
            self._window = (epoch, window)
        return int(self._starts[window])


class Batches:
    """Batches by step, some steps at a time, read ahead by a thread.

    Args:
      data: the examples.
      batch_size: examples a batch; batches go on over the end of an epoch.
      seed: of the order; None for the order of the files.
      first_step: where to begin.
    """

    def __init__(
        self, data: PretrainingData, *, batch_size: int, seed: int | None, first_step: int = 0
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._order = _Order(data, seed)
        self._next_step = first_step
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="input")
        self._ahead: tuple[int, Future[Batch]] | None = None

    def take(self, steps: int, then: int = 0) -> Batch:
        """Returns the next steps' batches, arrays [steps, batch_size, ...] by feature name.

        Args:
          steps: how many; after a call with `then` that number.
          then: how many to read ahead for the next call.
        """
        ahead_steps, future = self._ahead or self._submit(steps)
        if ahead_steps != steps:
            raise ValueError(f"{steps} steps are asked for, {ahead_steps} were read ahead")
        self._ahead = self._submit(then) if then else None
        return future.result()

    def _submit(self, steps: int) -> tuple[int, Future[Batch]]:
        first, self._next_step = self._next_step, self._next_step + steps
        return steps, self._pool.submit(self._read, first, steps)

    def _read(self, first: int, steps: int) -> Batch:
        integers, floats = self._order.rows(first * self._batch_size, steps * self._batch_size)
        shape = (steps, self._batch_size, -1)
        return {
            name: np.ascontiguousarray(values)
            for name, values in self._data.decoder.views(
                integers.reshape(shape), floats.reshape(shape)
            ).items()
        }

    def close(self) -> None:
        """Ends the reading thread."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sequential_batches(data: PretrainingData, *, batch_size: int, steps: int) -> Iterator[Batch]:
    """Yields `steps` batches [batch_size, ...] in the order of the files, again from the start."""
    order = _Order(data, None)
    for step in range(steps):
        yield data.decoder.views(*order.rows(step * batch_size, batch_size))


def _permutation(count: int, seed: int, *key: int) -> np.ndarray:
    """Returns int64 [count], a permutation that follows from seed and key on every machine."""
    words = np.random.SeedSequence([seed, *key]).generate_state(2, np.uint64)
    return np.argsort(np.random.Philox(key=words).random_raw(count), kind="stable")


def _fields(config: BertConfig, max_seq_length: int, max_predictions_per_seq: int) -> list[Field]:
    limits = {
        "input_ids": config.vocab_size,
        "input_mask": 2,
        "segment_ids": config.type_vocab_size,
        "masked_lm_positions": max_seq_length,
        "masked_lm_ids": config.vocab_size,
        "next_sentence_labels": 2,
    }
    features = pretraining_features(max_seq_length, max_predictions_per_seq)
    return [
        Field(name, feature.length, feature.dtype == "float32", limits.get(name, 0))
        for name, feature in features.items()
    ]
