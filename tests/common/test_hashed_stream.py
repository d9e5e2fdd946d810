"""A stream is read as it is, and hashed on the way."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from data_prep.common.hashed_stream import HashedStream

CONTENT = bytes(range(256)) * 37


@pytest.mark.parametrize("buffer_size", [1, 13, 1 << 20])
def test_what_is_read_is_hashed(tmp_path: Path, buffer_size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    for source in (path.open("rb"), path.open("rb", buffering=0), io.BytesIO(CONTENT)):
        stream = HashedStream(source)
        with io.BufferedReader(stream, buffer_size) as reader:
            assert reader.read(100) + reader.read() == CONTENT
            assert stream.hexdigest() == hashlib.sha256(CONTENT).hexdigest()
            assert stream.bytes_read == len(CONTENT)
        assert source.closed


def test_what_was_not_read_is_not_hashed() -> None:
    stream = HashedStream(io.BytesIO(CONTENT))
    assert stream.read(7) == CONTENT[:7]
    assert (stream.bytes_read, stream.hexdigest()) == (7, hashlib.sha256(CONTENT[:7]).hexdigest())
