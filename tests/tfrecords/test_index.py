"""Where records lie: found once, kept, and found again where what was kept is damaged."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.tfrecords.index import CACHE_NAME, FileIndex, index_files
from tests.golden_data import golden


def same(found: list[FileIndex], expected: list[FileIndex]) -> bool:
    return all(
        one.records == other.records and np.array_equal(one.block_offsets, other.block_offsets)
        for one, other in zip(found, expected, strict=True)
    )


def damages(content: bytes) -> list[bytes]:
    """Returns the file cut short, with a bit, a byte or a part changed, emptied or made longer."""
    draw = np.random.default_rng(5)
    found = [content[: int(cut)] for cut in draw.integers(0, len(content), 60)]
    for place in draw.choice(len(content), 400, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(draw.integers(8))
        found.append(bytes(damaged))
    for _ in range(60):
        first, last = sorted(draw.integers(0, len(content) + 1, 2))
        junk = draw.bytes(int(last - first))
        found += [content[:first] + junk + content[last:], content[:first] + content[last:]]
    found += [b"", b"PK", bytes(len(content)), content + b"\0", content[32:], content * 2]
    return [damaged for damaged in found if damaged != content]


def test_a_damaged_index_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [golden("cased_128.tfrecord"), shutil.copy(golden("wwm_128.tfrecord"), tmp_path)]
    expected = index_files(paths, tmp_path)
    cache = tmp_path / CACHE_NAME
    content = cache.read_bytes()
    found = damages(content)
    with caplog.at_level(logging.INFO):
        for number, damaged in enumerate(found, 1):
            cache.write_bytes(damaged)
            assert same(index_files(paths, tmp_path), expected)
            assert cache.read_bytes() == content
            assert len(caplog.messages) == number
    assert set(caplog.messages) == {f"{cache} is damaged and is made again"}
    assert len(found) > 500


def test_a_whole_index_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = golden("cased_128.tfrecord")
    expected = index_files([path], tmp_path)
    monkeypatch.delattr("bert_clinical.tfrecords.index._walk")
    assert same(index_files([path], tmp_path), expected)
