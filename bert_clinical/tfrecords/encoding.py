"""Instances to bytes of TFRecords by compiled code: framed `tf.train.Example` messages."""

from __future__ import annotations

import numpy as np

from bert_clinical.tfrecords.frames import CRC_TABLES, masked_crc
from bert_clinical.tfrecords.schema import (
    INSTANCE_IDS,
    INSTANCE_IS_RANDOM_NEXT,
    INSTANCE_LENGTH,
    INSTANCE_LENGTH_A,
    INSTANCE_MASKED,
    pretraining_features,
)
from data_prep.common.compiled import compiled, compiled_part

_FLOAT_LIST, _INT64_LIST = 2, 3
_FRAME_BEFORE, _FRAME_AFTER = 12, 4

_NAMES = list(pretraining_features(1, 1))
_NAME_BYTES = np.zeros((len(_NAMES), max(map(len, _NAMES))), np.uint8)
_NAME_LENGTHS = np.array([len(name) for name in _NAMES], np.int64)
for _row, _name in zip(_NAME_BYTES, _NAMES, strict=True):
    _row[: len(_name)] = np.frombuffer(_name.encode(), np.uint8)
(
    _INPUT_IDS,
    _INPUT_MASK,
    _SEGMENT_IDS,
    _MASKED_LM_POSITIONS,
    _MASKED_LM_IDS,
    _MASKED_LM_WEIGHTS,
    _NEXT_SENTENCE_LABELS,
) = range(len(_NAMES))


def framed_size_bound(max_seq_length: int, max_predictions: int, largest_id: int) -> int:
    """Returns a number of bytes that no framed example exceeds."""
    largest = max(largest_id, max_seq_length)
    varint = (largest.bit_length() + 6) // 7
    payload = max_seq_length * (varint + 2) + max_predictions * (2 * varint + 4) + 1
    headers = int(_NAME_LENGTHS.sum()) + len(_NAMES) * 40
    return payload + headers + 32


@compiled
def encode_examples(
    instances: np.ndarray,
    selection: np.ndarray,
    max_seq_length: int,
    max_predictions: int,
    out: np.ndarray,
) -> int:
    """Writes instances as framed examples, one after the other.

    Args:
      instances: `[any, instance_width]`, as `make_instances` fills them.
      selection: int64 [examples], which instances, in this order.
      max_seq_length: WordPieces in a sequence.
      max_predictions: masked WordPieces in a sequence.
      out: uint8 [at least framed_size_bound for each example].

    Returns:
      How many bytes were written.
    """
    sizes = np.empty(len(_NAME_LENGTHS), np.int64)
    end = 0
    for index in selection:
        start = end + _FRAME_BEFORE
        stop = _write_example(instances[index], max_seq_length, max_predictions, sizes, out, start)
        size = stop - start
        for i in range(8):
            out[end + i] = (size >> (8 * i)) & 0xFF
        _write_crc(out, end, end + 8, end + 8)
        _write_crc(out, start, stop, stop)
        end = stop + _FRAME_AFTER
    return end


@compiled_part
def _write_example(  # type: ignore[no-untyped-def]
    instance, max_seq_length, max_predictions, sizes, out, at
):
    """Writes a message; `sizes` is room for the bytes of each feature's numbers."""
    length = np.int64(instance[INSTANCE_LENGTH])
    length_a = np.int64(instance[INSTANCE_LENGTH_A])
    masked = np.int64(instance[INSTANCE_MASKED])
    ids = instance[INSTANCE_IDS : INSTANCE_IDS + max_seq_length]
    positions = instance[INSTANCE_IDS + max_seq_length :]
    labels = positions[max_predictions:]
    sizes[_INPUT_IDS] = _packed_size(ids, length, max_seq_length)
    sizes[_INPUT_MASK] = sizes[_SEGMENT_IDS] = max_seq_length
    sizes[_MASKED_LM_POSITIONS] = _packed_size(positions, masked, max_predictions)
    sizes[_MASKED_LM_IDS] = _packed_size(labels, masked, max_predictions)
    sizes[_MASKED_LM_WEIGHTS] = 4 * max_predictions
    sizes[_NEXT_SENTENCE_LABELS] = 1
    total = 0
    for name in range(len(sizes)):
        total += _entry_size(name, sizes[name])
    at = _write_header(out, at, 1, total)
    for name in range(len(sizes)):
        at = _write_entry_head(out, at, name, sizes[name])
        if name == _INPUT_IDS:
            at = _write_packed(out, at, ids, length, max_seq_length)
        elif name == _INPUT_MASK:
            at = _fill(out, at, length, 1)
            at = _fill(out, at, max_seq_length - length, 0)
        elif name == _SEGMENT_IDS:
            at = _fill(out, at, length_a, 0)
            at = _fill(out, at, length - length_a, 1)
            at = _fill(out, at, max_seq_length - length, 0)
        elif name == _MASKED_LM_POSITIONS:
            at = _write_packed(out, at, positions, masked, max_predictions)
        elif name == _MASKED_LM_IDS:
            at = _write_packed(out, at, labels, masked, max_predictions)
        elif name == _MASKED_LM_WEIGHTS:
            for i in range(max_predictions):
                # 1.0 is 00 00 80 3F.
                at = _fill(out, at, 2, 0)
                out[at] = 0x80 if i < masked else 0
                out[at + 1] = 0x3F if i < masked else 0
                at += 2
        else:
            at = _fill(out, at, 1, instance[INSTANCE_IS_RANDOM_NEXT])
    return at


@compiled_part
def _varint_size(value):  # type: ignore[no-untyped-def]
    size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


@compiled_part
def _write_varint(out, at, value):  # type: ignore[no-untyped-def]
    while value >= 0x80:
        out[at] = (value & 0x7F) | 0x80
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


@compiled_part
def _packed_size(values, count, length):  # type: ignore[no-untyped-def]
    size = length - count
    for i in range(count):
        size += _varint_size(np.int64(values[i]))
    return size


@compiled_part
def _write_packed(out, at, values, count, length):  # type: ignore[no-untyped-def]
    for i in range(count):
        at = _write_varint(out, at, np.int64(values[i]))
    return _fill(out, at, length - count, 0)


@compiled_part
def _fill(out, at, count, value):  # type: ignore[no-untyped-def]
    for i in range(at, at + count):
        out[i] = value
    return at + count


@compiled_part
def _nested_size(size):  # type: ignore[no-untyped-def]
    """The size of a message of `size` bytes as a field of another."""
    return 1 + _varint_size(size) + size


@compiled_part
def _list_size(payload):  # type: ignore[no-untyped-def]
    """The size of a list of numbers; one without any has no field for them."""
    return _nested_size(payload) if payload else 0


@compiled_part
def _entry_size(name, payload):  # type: ignore[no-untyped-def]
    """The size of a whole feature with its name, as a field of `Features`."""
    feature = _nested_size(_nested_size(_list_size(payload)))
    return _nested_size(_nested_size(_NAME_LENGTHS[name]) + feature)


@compiled_part
def _write_header(out, at, field, size):  # type: ignore[no-untyped-def]
    out[at] = field << 3 | 2
    return _write_varint(out, at + 1, size)


@compiled_part
def _write_entry_head(out, at, name, payload):  # type: ignore[no-untyped-def]
    """Writes all that stands before the numbers of a feature."""
    feature_list = _list_size(payload)
    feature = _nested_size(feature_list)
    name_length = _NAME_LENGTHS[name]
    at = _write_header(out, at, 1, _nested_size(name_length) + _nested_size(feature))
    at = _write_header(out, at, 1, name_length)
    for i in range(name_length):
        out[at + i] = _NAME_BYTES[name, i]
    at = _write_header(out, at + name_length, 2, feature)
    kind = _FLOAT_LIST if name == _MASKED_LM_WEIGHTS else _INT64_LIST
    at = _write_header(out, at, kind, feature_list)
    return _write_header(out, at, 1, payload) if payload else at


@compiled_part
def _write_crc(data, start, end, at):  # type: ignore[no-untyped-def]
    """Writes the checksum of `data[start:end]` at `at`."""
    checksum = masked_crc(data, start, end, CRC_TABLES)
    for i in range(4):
        data[at + i] = (checksum >> np.uint32(8 * i)) & np.uint32(0xFF)
