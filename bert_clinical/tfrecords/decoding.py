"""Reads TFRecords of pretraining examples straight into arrays, by compiled code.

TensorFlow's own reader starts every file at its beginning and names no record when one is corrupt.
This one takes any range of bytes and tells exactly where and how a record is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bert_clinical.tfrecords import frames
from bert_clinical.tfrecords.frames import (
    CRC_TABLES,
    DATA_CHECKSUM,
    frame,
    little_endian,
    masked_crc,
)
from data_prep.common.compiled import compiled
from data_prep.common.errors import UserError

INT64_LIST, FLOAT_LIST = 3, 2

_OK = frames.OK
_MALFORMED, _MISSING, _KIND, _COUNT, _RANGE = range(10, 15)


@dataclass(frozen=True)
class Field:
    """One feature of an example, and what its values must be.

    Attributes:
      name: of the feature.
      length: number of its values.
      is_float: float32 rather than int64.
      limit: integers must lie in [0, limit).
    """

    name: str
    length: int
    is_float: bool
    limit: int


class ExampleDecoder:
    """Decodes records of examples that hold `fields`.

    Args:
      fields: what every example must hold; other features are passed over.
    """

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        aliases = [
            (name, place)
            for place, field in enumerate(fields)
            for name in (field.name, *FURTHER_NAMES.get(field.name, ()))
        ]
        names = [name.encode() for name, _ in aliases]
        self._places = np.array([place for _, place in aliases], np.int64)
        self._names = np.frombuffer(b"".join(names), np.uint8)
        self._name_ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        self._kinds = np.array([FLOAT_LIST if f.is_float else INT64_LIST for f in fields], np.int64)
        self._lengths = np.array([field.length for field in fields], np.int64)
        self._limits = np.array([field.limit for field in fields], np.int64)
        starts, totals = [], {True: 0, False: 0}
        for field in fields:
            starts.append(totals[field.is_float])
            totals[field.is_float] += field.length
        self._starts = np.array(starts, np.int64)
        self.int_width, self.float_width = totals[False], totals[True]

    def decode(
        self,
        data: np.ndarray,
        count: int,
        integers: np.ndarray,
        floats: np.ndarray,
        *,
        path: str,
        first_record: int,
        first_byte: int,
    ) -> None:
        """Decodes consecutive records.

        Args:
          data: uint8, begins with a record's frame.
          count: how many records to decode.
          integers: int32 [count, int_width], filled with the integer fields side by side.
          floats: float32 [count, float_width], likewise.
          path: the file, for errors.
          first_record: the number in the file of the first record, from 0.
          first_byte: where in the file `data` begins.

        Raises:
          UserError: a record is corrupt or holds something else than expected.
        """
        status, record, offset, field, found = _decode_block(
            data, count, CRC_TABLES, self._names, self._name_ends, self._places, self._kinds,
            self._lengths, self._limits, self._starts, integers, floats,
        )  # fmt: skip
        if status != _OK:
            where = f"{path}: record {first_record + record} at byte {first_byte + offset}"
            raise UserError(f"{where}: {self._explain(status, field, found)}")

    def views(self, integers: np.ndarray, floats: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the fields by name as views of arrays whose last axis `decode` has filled."""
        return {
            field.name: (floats if field.is_float else integers)[..., start : start + field.length]
            for field, start in zip(self.fields, self._starts.tolist(), strict=True)
        }

    def _explain(self, status: int, index: int, found: int) -> str:
        if status in frames.ERRORS:
            return frames.ERRORS[status]
        if status == _MALFORMED:
            return "is no tf.train.Example; expected a file of create_pretraining_data"
        field = self.fields[index]
        if status == _MISSING:
            named = " or ".join((field.name, *FURTHER_NAMES.get(field.name, ())))
            return f"holds no feature {named}; expected a file of create_pretraining_data"
        if status == _KIND:
            wanted = "floats" if field.is_float else "integers"
            return f"{field.name} holds another type of values; expected {wanted}"
        if status == _COUNT:
            flag = _LENGTH_FLAGS.get(field.name, "the data's flag")
            return (
                f"{field.name} has {found} values, expected {field.length}; make the data with the "
                f"same {flag} as this run's, or change the flag"
            )
        advice = _RANGE_ADVICE[field.name]
        return f"{field.name} holds a value outside 0 to {field.limit - 1}; {advice}"


FURTHER_NAMES = {"input_ids": ("input_word_ids",), "segment_ids": ("input_type_ids",)}
"""What TensorFlow Models calls some features of the same content."""

_LENGTH_FLAGS = {
    "input_ids": "--max_seq_length",
    "input_mask": "--max_seq_length",
    "segment_ids": "--max_seq_length",
    "masked_lm_positions": "--max_predictions_per_seq",
    "masked_lm_ids": "--max_predictions_per_seq",
    "masked_lm_weights": "--max_predictions_per_seq",
}

_RANGE_ADVICE = {
    "input_ids": "make the data with the vocabulary that vocab_size of the config counts",
    "masked_lm_ids": "make the data with the vocabulary that vocab_size of the config counts",
    "input_mask": "expected a file of create_pretraining_data",
    "segment_ids": "expected fewer segments, or a config with a larger type_vocab_size",
    "masked_lm_positions": "expected positions within max_seq_length",
    "next_sentence_labels": "expected 0 or 1",
}


@compiled
def _varint(data, at, end):  # type: ignore[no-untyped-def]
    """Returns a value and the position after it; -1 for the position if there is none."""
    value = np.uint64(0)
    shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            return np.int64(value), at
        shift += 7
    return np.int64(0), -1


@compiled
def _skip(data, wire, at, end):  # type: ignore[no-untyped-def]
    """Returns the position after a value of that wire type, -1 if it is malformed."""
    if wire == 0:
        return _varint(data, at, end)[1]
    if wire == 1:
        at += 8
    elif wire == 5:
        at += 4
    elif wire == 2:
        length, at = _varint(data, at, end)
        if at < 0 or length < 0:
            return -1
        at += length
    else:
        return -1
    return at if at <= end else -1


@compiled
def _values(data, at, end, is_float, limit, length, integers, floats, start):  # type: ignore[no-untyped-def]
    """Decodes one Int64List or FloatList; returns a status and the number of values found."""
    count = 0
    in_range = True
    while at < end:
        tag, at = _varint(data, at, end)
        if at < 0:
            return _MALFORMED, count
        wire = tag & 7
        if tag >> 3 != 1:
            at = _skip(data, wire, at, end)
            if at < 0:
                return _MALFORMED, count
            continue
        stop = end
        if wire == 2:
            size, at = _varint(data, at, end)
            if at < 0 or size < 0 or at + size > end:
                return _MALFORMED, count
            stop = at + size
        elif wire != (5 if is_float else 0):
            return _MALFORMED, count
        while at < stop:
            if is_float:
                if at + 4 > stop:
                    return _MALFORMED, count
                if count < length:
                    bits = np.empty(1, np.uint32)
                    bits[0] = np.uint32(little_endian(data, at, 4))
                    floats[start + count] = bits.view(np.float32)[0]
                at += 4
            else:
                byte = data[at]
                if byte < 0x80:
                    value = np.int64(byte)
                    at += 1
                else:
                    value, at = _varint(data, at, stop)
                    if at < 0:
                        return _MALFORMED, count
                in_range &= 0 <= value < limit
                if count < length:
                    integers[start + count] = np.int32(value)
            count += 1
            if wire != 2:
                break
    if count != length:
        return _COUNT, count
    return (_OK if in_range else _RANGE), count


@compiled
def _field_index(data, begin, end, names, name_ends, places):  # type: ignore[no-untyped-def]
    """Returns which field's name stands at [begin, end), -1 for none of them."""
    name_begin = 0
    for index in range(len(name_ends)):
        if name_ends[index] - name_begin == end - begin:
            same = True
            for at in range(end - begin):
                if data[begin + at] != names[name_begin + at]:
                    same = False
                    break
            if same:
                return places[index]
        name_begin = name_ends[index]
    return -1


@compiled
def _span(data, at, end, wanted):  # type: ignore[no-untyped-def]
    """Finds the next length-delimited field with the number `wanted`.

    Returns its begin and end; begin is -1 where there is none left, -2 for malformed bytes.
    """
    while at < end:
        tag, at = _varint(data, at, end)
        if at < 0:
            return -2, at
        if tag >> 3 == wanted and tag & 7 == 2:
            length, at = _varint(data, at, end)
            if at < 0 or length < 0 or at + length > end:
                return -2, at
            return at, at + length
        at = _skip(data, tag & 7, at, end)
        if at < 0:
            return -2, at
    return -1, at


@compiled
def _example(  # type: ignore[no-untyped-def]
    data, begin, end, names, name_ends, places, kinds, lengths, limits, starts, integers, floats
):
    """Decodes one example; returns a status, the field it concerns and the count found there."""
    seen = 0
    worst_status, worst, worst_count = _OK, 0, 0
    features, features_end = _span(data, begin, end, 1)
    if features < 0:
        return _MALFORMED, 0, 0
    at = features
    while True:
        entry, entry_end = _span(data, at, features_end, 1)
        if entry == -1:
            break
        if entry < 0:
            return _MALFORMED, 0, 0
        at = entry_end
        key, key_end = _span(data, entry, entry_end, 1)
        value, value_end = _span(data, entry, entry_end, 2)
        if key < 0 or value < -1:
            return _MALFORMED, 0, 0
        index = _field_index(data, key, key_end, names, name_ends, places)
        if index < 0 or value == -1:
            continue
        body, body_end = _span(data, value, value_end, kinds[index])
        if body == -2:
            return _MALFORMED, index, 0
        if body == -1:
            return _KIND, index, 0
        status, count = _values(
            data, body, body_end, kinds[index] == FLOAT_LIST, limits[index], lengths[index],
            integers, floats, starts[index],
        )  # fmt: skip
        if status == _MALFORMED:
            return status, index, 0
        # Features come in any order. A feature of the wrong length is reported before a value out
        # of range, and of several the first in the order of the fields.
        if status == _COUNT and (worst_status != _COUNT or index < worst):
            worst_status, worst, worst_count = status, index, count
        elif status == _RANGE and (
            worst_status == _OK or (worst_status == _RANGE and index < worst)
        ):
            worst_status, worst = status, index
        seen |= 1 << index
    for index in range(len(lengths)):
        if not seen & (1 << index):
            return _MISSING, index, 0
    return worst_status, worst, worst_count


@compiled
def _decode_block(  # type: ignore[no-untyped-def]
    data, count, tables, names, name_ends, places, kinds, lengths, limits, starts, integers, floats
):
    at = np.int64(0)
    for record in range(count):
        status, length = frame(data, at, tables)
        if status != _OK:
            return status, record, at, 0, 0
        begin = at + 12
        end = begin + length
        if np.uint32(little_endian(data, end, 4)) != masked_crc(data, begin, end, tables):
            return DATA_CHECKSUM, record, at, 0, 0
        status, field, found = _example(
            data, begin, end, names, name_ends, places, kinds, lengths, limits, starts,
            integers[record], floats[record],
        )  # fmt: skip
        if status != _OK:
            return status, record, at, field, found
        at = end + 4
    return _OK, count, at, 0, 0
