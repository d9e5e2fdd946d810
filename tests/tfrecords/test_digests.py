"""SHA-256 of files that are kept: large data is read once, and again when it has changed."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from bert_clinical.tfrecords.digests import Digests
from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.own_files import DIGESTS_NAME


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read for their SHA-256."""
    found = []
    read = atomic_files.sha256_of_file

    def noted(path: str | os.PathLike[str]) -> str:
        found.append(Path(path).name)
        return read(path)

    monkeypatch.setattr(atomic_files, "sha256_of_file", noted)
    return found


def made(folder: Path, **contents: bytes) -> dict[str, str]:
    """Writes files; returns their SHA-256 by path."""
    found = {}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        found[str(folder / name)] = atomic_files.fingerprint(folder / name)["sha256"]
    return found


def test_a_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    data = made(tmp_path, a=b"one", b=b"two")
    reads.clear()
    for _ in range(3):
        digests = Digests(tmp_path)
        assert all(digests.is_one_of(path, {sha256, "x"}) for path, sha256 in data.items())
        digests.keep()
        assert reads == ["a", "b"]
    assert not digests.is_one_of(tmp_path / "b", {"x"})


@pytest.mark.parametrize("how", ["written over", "replaced", "replaced by one of the same time"])
def test_a_file_that_has_changed_is_read_again(tmp_path: Path, reads: list[str], how: str) -> None:
    (path,) = data = made(tmp_path, a=b"one")
    digests = Digests(tmp_path)
    assert digests.is_one_of(path, data.values())
    digests.keep()
    before = Path(path).stat()
    if how != "written over":
        (tmp_path / "new").write_bytes(b"ONE")
        (tmp_path / "new").replace(path)
    else:
        Path(path).write_bytes(b"ONE")
    later = before.st_mtime_ns + (how != "replaced by one of the same time")
    os.utime(path, ns=(before.st_atime_ns, later))
    assert Path(path).stat().st_size == before.st_size
    reads.clear()
    assert not Digests(tmp_path).is_one_of(path, data.values())
    assert reads == ["a"]


def test_another_file_of_the_same_name_is_another(tmp_path: Path, reads: list[str]) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    first, second = made(tmp_path / "x", a=b"one"), made(tmp_path / "y", a=b"two")
    digests = Digests(tmp_path)
    assert digests.is_one_of(*first, first.values())
    assert not digests.is_one_of(*second, first.values())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"0123": 5}', "wrong", "list", "\xff"])
def test_what_is_damaged_is_made_again(
    tmp_path: Path, reads: list[str], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = data = made(tmp_path, a=b"one")
    digests = Digests(tmp_path)
    assert digests.is_one_of(path, data.values())
    digests.keep()
    kept = tmp_path / DIGESTS_NAME
    whole = kept.read_bytes()
    values = {"wrong": "0" * 64, "list": []}
    if damage in values:
        damage = json.dumps(dict.fromkeys(json.loads(whole), values[damage]))
    kept.write_bytes(damage.encode("latin-1"))
    reads.clear()
    with caplog.at_level(logging.INFO):
        digests = Digests(tmp_path)
    assert digests.is_one_of(path, set(data.values()))
    assert reads == ["a"]
    digests.keep()
    assert json.loads(whole).items() <= json.loads(kept.read_bytes()).items()
    assert ("damaged" in caplog.text) == (damage in ("", "{", "[]", "\xff"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a: No such file"):
        Digests().is_one_of(tmp_path / "a", {"x"})
