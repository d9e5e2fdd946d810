"""TFRecord files that appear when they are complete."""

import errno

import pytest

from bert_clinical.tfrecords.files import open_outputs
from bert_clinical.tfrecords.sidecars import read_sidecar, write_sidecar
from tests.tfrecord_files import framed, read_records

RECORDS = [b"", b"x", b"note " * 100]


def write(path, records=RECORDS):
    with open_outputs([path]) as (stream,):
        for record in records:
            stream.write(framed(record))
    return path


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_round_trip(tmp_path, name):
    path = write(tmp_path / name)
    assert read_records(path) == RECORDS
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert name.endswith(".gz") == (path.read_bytes()[:2] == b"\x1f\x8b")


def test_gzip_bytes_do_not_depend_on_name_or_time(tmp_path):
    assert write(tmp_path / "a.gz").read_bytes() == write(tmp_path / "b.gz").read_bytes()


def test_failed_block_leaves_what_was_there(tmp_path):
    old = write(tmp_path / "a.tfrecord")
    write_sidecar(old, {"kept": 1})
    before = old.read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        open_outputs([old, tmp_path / "b.tfrecord.gz"]) as streams,
    ):
        streams[0].write(b"half")
        streams[1].write(b"half")
        raise KeyboardInterrupt
    assert old.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tfrecord", "a.tfrecord.json"]


def test_new_file_loses_the_old_sidecar(tmp_path):
    path = write(tmp_path / "a.tfrecord")
    write_sidecar(path, {"of": "the first"})
    write(path, [b"second"])
    assert read_sidecar(path) is None


def test_failed_write_names_the_file(tmp_path):
    path = tmp_path / "a.tfrecord"
    with pytest.raises(OSError, match="No space") as failure, open_outputs([path]):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert failure.value.filename == str(path)
