"""The frames of TFRecord files: lengths and checksums around each record, read by compiled code."""

from __future__ import annotations

import numpy as np

from data_prep.common.compiled import compiled

FRAME_BYTES = 16
"""Around a record's bytes: length (8), checksum of the length (4), checksum of the bytes (4)."""

OK, CUT, LENGTH_CHECKSUM, DATA_CHECKSUM = range(4)

ERRORS = {
    CUT: "the file ends in the middle of a record; copy or make it again",
    LENGTH_CHECKSUM: "the checksum of its length does not fit: the file is corrupt or no TFRecord "
    "file; copy or make it again",
    DATA_CHECKSUM: "the checksum of its bytes does not fit: the file is corrupt; copy or make it "
    "again",
}
"""What is wrong with a record, by the status of `frame` and `count_records`."""

_CRC_POLYNOMIAL = 0x82F63B78
_CRC_MASK_DELTA = 0xA282EAD8


def count_records(data: np.ndarray, block: int) -> tuple[np.ndarray, int, int, int]:
    """Walks over the frames of a whole file.

    Args:
      data: uint8, the file.
      block: records in a block.

    Returns:
      int64 offsets of the blocks' beginnings, the number of records, a status that is 0 if all is
      well, and the offset reached.
    """
    return _walk(data, block, CRC_TABLES)


def _crc_tables() -> np.ndarray:
    """Returns the tables [8, 256] of CRC-32C for eight bytes at a time."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_CRC_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for index in range(1, 8):
        previous = tables[index - 1]
        tables[index] = (previous >> np.uint32(8)) ^ tables[0][previous & np.uint32(0xFF)]
    return tables


CRC_TABLES = _crc_tables()


@compiled
def masked_crc(data, begin, end, tables):  # type: ignore[no-untyped-def]
    """Returns the checksum of uint8 data [begin, end) as TFRecord files keep it."""
    crc = np.uint32(0xFFFFFFFF)
    at = begin
    while at + 8 <= end:
        crc = (
            tables[7, (crc ^ data[at]) & np.uint32(0xFF)]
            ^ tables[6, ((crc >> np.uint32(8)) ^ data[at + 1]) & np.uint32(0xFF)]
            ^ tables[5, ((crc >> np.uint32(16)) ^ data[at + 2]) & np.uint32(0xFF)]
            ^ tables[4, ((crc >> np.uint32(24)) ^ data[at + 3]) & np.uint32(0xFF)]
            ^ tables[3, data[at + 4]]
            ^ tables[2, data[at + 5]]
            ^ tables[1, data[at + 6]]
            ^ tables[0, data[at + 7]]
        )
        at += 8
    while at < end:
        crc = (crc >> np.uint32(8)) ^ tables[0, (crc ^ data[at]) & np.uint32(0xFF)]
        at += 1
    crc = np.uint32(crc ^ np.uint32(0xFFFFFFFF))
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return np.uint32(rotated + np.uint32(_CRC_MASK_DELTA))


@compiled
def little_endian(data, at, size):  # type: ignore[no-untyped-def]
    """Returns the unsigned integer of `size` bytes at `at`."""
    value = np.uint64(0)
    for index in range(size):
        value |= np.uint64(data[at + index]) << np.uint64(8 * index)
    return value


@compiled
def frame(data, at, tables):  # type: ignore[no-untyped-def]
    """Returns a status and the length of the record whose frame begins at `at`."""
    size = len(data)
    if at + 12 > size:
        return CUT, 0
    if np.uint32(little_endian(data, at + 8, 4)) != masked_crc(data, at, at + 8, tables):
        return LENGTH_CHECKSUM, 0
    length = little_endian(data, at, 8)
    if length > np.uint64(size) or at + FRAME_BYTES + np.int64(length) > size:
        return CUT, 0
    return OK, np.int64(length)


@compiled
def _walk(data, block, tables):  # type: ignore[no-untyped-def]
    size = len(data)
    starts = np.empty(size // (block * FRAME_BYTES) + 2, np.int64)
    records = 0
    at = 0
    while at < size:
        status, length = frame(data, at, tables)
        if status != OK:
            return starts[:0], records, status, at
        if records % block == 0:
            starts[records // block] = at
        records += 1
        at += FRAME_BYTES + length
    return starts[: (records + block - 1) // block].copy(), records, OK, at
