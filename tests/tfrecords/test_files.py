"""TFRecord files that appear when they are complete."""

import errno

import pytest

from bert_clinical.tfrecords import files
from bert_clinical.tfrecords.files import TFRecordOutputs
from bert_clinical.tfrecords.sidecars import read_sidecar
from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from tests.tfrecord_files import framed, read_records

RECORDS = [b"", b"x", b"note " * 100]


def write(path, records=RECORDS):
    with TFRecordOutputs([path]) as outputs:
        for record in records:
            outputs.streams[0].write(framed(record))
        outputs.commit({"outputs": outputs.finish()})
    return path


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_round_trip(tmp_path, name):
    path = write(tmp_path / name)
    assert read_records(path) == RECORDS
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, f"{name}.json"]
    assert read_sidecar(path) == {"outputs": [atomic_files.fingerprint(path)]}
    assert name.endswith(".gz") == (path.read_bytes()[:2] == b"\x1f\x8b")


def test_gzip_bytes_do_not_depend_on_name_or_time(tmp_path):
    assert write(tmp_path / "a.gz").read_bytes() == write(tmp_path / "b.gz").read_bytes()


def test_failed_block_leaves_what_was_there(tmp_path):
    old = write(tmp_path / "a.tfrecord")
    sidecar = read_sidecar(old)
    before = old.read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        TFRecordOutputs([old, tmp_path / "b.tfrecord.gz"]) as outputs,
    ):
        outputs.streams[0].write(b"half")
        outputs.streams[1].write(b"half")
        raise KeyboardInterrupt
    assert old.read_bytes() == before
    assert read_sidecar(old) == sidecar
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tfrecord", "a.tfrecord.json"]


def test_the_old_sidecar_never_describes_the_new_file(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tfrecord")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_sidecar", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, [b"second"])
    assert read_records(path) == [b"second"]
    assert read_sidecar(path) is None


def test_until_the_sidecar_stands_nobody_else_writes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_SECONDS_TO_END", 0.0)
    path = tmp_path / "a.tfrecord"
    with TFRecordOutputs([path]) as outputs:
        outputs.streams[0].write(framed(b"first"))
        description = {"outputs": outputs.finish()}
        real = files.write_sidecar

        def after_another(*args):
            with pytest.raises(UserError, match="another program is writing it"):
                TFRecordOutputs([path])
            real(*args)

        monkeypatch.setattr(files, "write_sidecar", after_another)
        outputs.commit(description)
    assert read_records(path) == [b"first"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tfrecord", "a.tfrecord.json"]


def test_failed_write_names_the_file(tmp_path):
    path = tmp_path / "a.tfrecord"
    with pytest.raises(OSError, match="No space") as failure, TFRecordOutputs([path]):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert failure.value.filename == str(path)
