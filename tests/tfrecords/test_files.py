"""TFRecord files: framing, corruption, parsing, sidecars, outputs that appear when complete."""

import errno
import gzip

import numpy as np
import pytest

from bert_clinical.tfrecords import files as tfrecord_io
from data_prep.common.program import UserError
from tests.golden_data import golden

RECORDS = [b"", b"x", b"note " * 100]


def write(path, records=RECORDS):
    with tfrecord_io.open_outputs([path]) as (stream,):
        for record in records:
            stream.write(tfrecord_io.framed(record))
    return path


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_round_trip(tmp_path, name):
    path = write(tmp_path / name)
    assert list(tfrecord_io.read_records(path)) == RECORDS
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert name.endswith(".gz") == (path.read_bytes()[:2] == b"\x1f\x8b")


def test_framing_is_that_of_tensorflow():
    stored = golden("cased_128.tfrecord").read_bytes()
    records = list(tfrecord_io.read_records(golden("cased_128.tfrecord")))
    assert b"".join(map(tfrecord_io.framed, records)) == stored


def test_gzip_bytes_do_not_depend_on_name_or_time(tmp_path):
    assert write(tmp_path / "a.gz").read_bytes() == write(tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    ("position", "record", "offset"),
    [(0, 0, 0), (9, 0, 0), (14, 0, 0), (16, 1, 16), (28, 1, 16), (33, 2, 33), (60, 2, 33)],
)
def test_flipped_byte_is_located(tmp_path, position, record, offset):
    path = write(tmp_path / "a.tfrecord")
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.tfrecord: record {record} at byte {offset} has"):
        list(tfrecord_io.read_records(path))


@pytest.mark.parametrize("length", [5, 14, 20, 40, 540])
def test_cut_file_is_located(tmp_path, length):
    path = write(tmp_path / "a.tfrecord")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"record \d at byte \d+ is cut short"):
        list(tfrecord_io.read_records(path))


@pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: b"plain" + d, lambda d: d[:3]])
def test_damaged_gzip(tmp_path, damage):
    path = write(tmp_path / "a.tfrecord.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="gzip file is cut short or corrupt"):
        list(tfrecord_io.read_records(path))


def test_missing_file():
    with pytest.raises(UserError, match="nowhere"):
        list(tfrecord_io.read_records("nowhere.tfrecord"))


def test_parsing(tmp_path):
    features = tfrecord_io.pretraining_features(128, 20)
    record = next(iter(tfrecord_io.read_records(golden("one_example.tfrecord"))))
    example = tfrecord_io.parse_pretraining_example(record, features)
    for name, (dtype, length) in features.items():
        assert (example[name].dtype, example[name].shape) == (np.dtype(dtype), (length,))
    ids, mask = example["input_ids"], example["input_mask"]
    assert mask.sum() > 2
    assert np.array_equal(ids != 0, mask == 1)
    assert set(example["masked_lm_weights"]) <= {0.0, 1.0}


def message(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


def test_parsing_takes_unpacked_and_negative_numbers():
    numbers = b"\x08\x05\x08" + b"\xff" * 9 + b"\x01"
    entry = message(1, b"input_ids") + message(2, message(3, numbers))
    record = message(1, message(1, entry))
    parsed = tfrecord_io.parse_pretraining_example(
        record, {"input_ids": tfrecord_io.Feature("int64", 2)}
    )
    assert parsed["input_ids"].tolist() == [5, -1]


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (b"", "no feature input_ids"),
        (b"\x0a\xff", "not a tf.train.Example"),
        (b"garbage", "not a tf.train.Example"),
    ],
)
def test_parsing_refuses(record, what):
    with pytest.raises(UserError, match=what):
        tfrecord_io.parse_pretraining_example(record, tfrecord_io.pretraining_features(8, 2))


def test_parsing_refuses_another_length():
    record = next(iter(tfrecord_io.read_records(golden("one_example.tfrecord"))))
    with pytest.raises(UserError, match="input_ids has 128 values; expected 64"):
        tfrecord_io.parse_pretraining_example(record, tfrecord_io.pretraining_features(64, 20))


def test_sidecar(tmp_path):
    path = tmp_path / "a.tfrecord"
    assert tfrecord_io.read_sidecar(path) is None
    tfrecord_io.write_sidecar(path, {"flags": {"max_seq_length": 128}})
    assert tfrecord_io.read_sidecar(path) == {"flags": {"max_seq_length": 128}}
    assert (tmp_path / "a.tfrecord.json").exists()
    for text in ("[]", "{", "\xff"):
        (tmp_path / "a.tfrecord.json").write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=r"a\.tfrecord\.json: not a JSON object"):
            tfrecord_io.read_sidecar(path)


def test_failed_block_leaves_what_was_there(tmp_path):
    old = write(tmp_path / "a.tfrecord")
    tfrecord_io.write_sidecar(old, {"kept": 1})
    before = old.read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        tfrecord_io.open_outputs([old, tmp_path / "b.tfrecord.gz"]) as streams,
    ):
        streams[0].write(b"half")
        streams[1].write(b"half")
        raise KeyboardInterrupt
    assert old.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tfrecord", "a.tfrecord.json"]


def test_new_file_loses_the_old_sidecar(tmp_path):
    path = write(tmp_path / "a.tfrecord")
    tfrecord_io.write_sidecar(path, {"of": "the first"})
    write(path, [b"second"])
    assert tfrecord_io.read_sidecar(path) is None


def test_failed_write_names_the_file(tmp_path):
    path = tmp_path / "a.tfrecord"
    with pytest.raises(OSError, match="No space") as failure, tfrecord_io.open_outputs([path]):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert failure.value.filename == str(path)


def test_tensorflow_reads_what_we_write(tmp_path):
    tf = pytest.importorskip("tensorflow")
    for name, kind in (("a.tfrecord", ""), ("a.tfrecord.gz", "GZIP")):
        path = write(tmp_path / name)
        dataset = tf.data.TFRecordDataset(str(path), compression_type=kind)
        assert list(dataset.as_numpy_iterator()) == RECORDS
    compressed = (tmp_path / "a.tfrecord.gz").read_bytes()
    assert gzip.decompress(compressed) == (tmp_path / "a.tfrecord").read_bytes()
