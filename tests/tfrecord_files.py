"""Writes and reads TFRecord files by code of others: google-crc32c and TensorFlow."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import google_crc32c


def framed(record: bytes) -> bytes:
    """Returns a record as it stands in a TFRecord file, with its length and checksums."""
    length = struct.pack("<Q", len(record))
    return length + masked_crc(length) + record + masked_crc(record)


def read_records(path: Path) -> list[bytes]:
    """Returns the records of a file, which TensorFlow holds against their checksums."""
    from bert_clinical.nn.tensorflow import tf

    compression = "GZIP" if path.suffix == ".gz" else ""
    return list(tf.data.TFRecordDataset(str(path), compression).as_numpy_iterator())


def read_examples(path: Path) -> list[dict[str, list[Any]]]:
    """Returns the values of each example's features by name."""
    from bert_clinical.nn.tensorflow import tf

    examples = []
    for record in read_records(path):
        features = tf.train.Example.FromString(record).features.feature
        examples.append(
            {
                name: list(getattr(feature, feature.WhichOneof("kind")).value)
                for name, feature in features.items()
            }
        )
    return examples


def masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
