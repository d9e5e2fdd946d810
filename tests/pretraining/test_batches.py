"""Order, resumption, decoding, and what is said of files that are not as they should be."""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import batches as input_pipeline
from bert_clinical.pretraining.batches import Batches, PretrainingData
from bert_clinical.tfrecords import index as record_index
from bert_clinical.tfrecords.schema import pretraining_features
from data_prep.common.errors import UserError
from tests.golden_data import golden
from tests.tfrecord_files import framed

CASED = "cased_128.tfrecord"


def example(number: int, *, length: int = 11, predictions: int = 3, **changes: Any) -> bytes:
    """An example whose first id tells which one it is."""
    values = {
        "input_ids": [number % 1000] * length,
        "input_mask": [1] * length,
        "segment_ids": [0] * length,
        "masked_lm_positions": [1] * predictions,
        "masked_lm_ids": [number // 1000] * predictions,
        "masked_lm_weights": [1.0] * predictions,
        "next_sentence_labels": [number % 2],
        **changes,
    }
    feature = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=value))
        if isinstance(value[0], float)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for name, value in values.items()
        if value is not None
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path: Path, records: list[bytes]) -> Path:
    path.write_bytes(b"".join(map(framed, records)))
    return path


def load(paths: list[Path], cache: Path, **changes: Any) -> PretrainingData:
    cache.mkdir(exist_ok=True)
    settings = {"config": BertConfig(1000, type_vocab_size=2), "max_seq_length": 11,
                "max_predictions_per_seq": 3, **changes}  # fmt: skip
    return PretrainingData(paths, cache_folder=cache, **settings)


def numbers(batch: dict[str, np.ndarray]) -> np.ndarray:
    return (batch["input_ids"][..., 0] + 1000 * batch["masked_lm_ids"][..., 0]).ravel()


@pytest.fixture(scope="module")
def three_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of 700, 1 and 599 records: 1,300 that know their numbers."""
    folder = tmp_path_factory.mktemp("records")
    bounds = [0, 700, 701, 1300]
    return [
        write(folder / f"{i}.tfrecord", [example(n) for n in range(bounds[i], bounds[i + 1])])
        for i in range(3)
    ]


def steps(data: PretrainingData, first: int, sizes: list[int], seed: int | None = 5) -> np.ndarray:
    with Batches(data, batch_size=100, seed=seed, first_step=first) as batches:
        following = [*sizes[1:], 0]
        taken = [batches.take(s, then) for s, then in zip(sizes, following, strict=True)]
    return np.concatenate([numbers(batch) for batch in taken])


def test_decodes_what_tensorflow_does(tmp_path: Path) -> None:
    path = golden(CASED)
    data = load([path], tmp_path, max_seq_length=128, max_predictions_per_seq=20)
    spec = {
        name: tf.io.FixedLenFeature([length], tf.as_dtype(dtype))
        for name, (dtype, length) in pretraining_features(128, 20).items()
    }
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    expected = tf.io.parse_example(records, spec)
    (batch,) = input_pipeline.sequential_batches(data, batch_size=len(records), steps=1)
    assert data.records == len(records) == 1440
    for name, values in expected.items():
        np.testing.assert_array_equal(batch[name], values, err_msg=name)


@pytest.mark.parametrize("both", [False, True])
def test_reads_the_names_of_tensorflow_models(tmp_path: Path, both: bool) -> None:
    theirs = {"input_word_ids": [5] * 11, "input_type_ids": [1] * 11}
    ours = {} if both else {"input_ids": None, "segment_ids": None}
    path = write(tmp_path / "a.tfrecord", [example(5, **ours, **theirs)])
    data = load([path], tmp_path)
    (batch,) = input_pipeline.sequential_batches(data, batch_size=1, steps=1)
    assert batch["input_ids"].tolist() == [[5] * 11]
    assert batch["input_mask"].tolist() == [[1] * 11]
    if not both:
        assert batch["segment_ids"].tolist() == [[1] * 11]


def test_a_missing_feature_is_told_by_all_its_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", [example(5, input_ids=None)])
    with pytest.raises(UserError, match="holds no feature input_ids or input_word_ids"):
        load([path], tmp_path)


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_gzip_is_known_by_its_bytes(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [example(n) for n in range(9)])
    for _ in range(2):
        data = load([path], tmp_path / "cache")
        (batch,) = input_pipeline.sequential_batches(data, batch_size=9, steps=1)
        assert numbers(batch).tolist() == list(range(9))
        path.write_bytes(gzip.compress(path.read_bytes()))


def test_zlib_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tfrecord", [example(1)])
    path.write_bytes(zlib.compress(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.tfrecord: is zlib-compressed; .*GZIP"):
        load([path], tmp_path)


def test_an_epoch_takes_every_record_once(three_files: list[Path], tmp_path: Path) -> None:
    data = load(three_files, tmp_path)
    order = steps(data, 0, [13])
    assert sorted(order) == list(range(1300))
    second = steps(data, 13, [13])
    assert sorted(second) == list(range(1300))
    assert (order != second).any()
    assert (order != steps(data, 0, [13], seed=6)).mean() > 0.9
    # Neighbours in the files are not neighbours in the order.
    assert (np.abs(np.diff(order)) == 1).mean() < 0.05


def test_order_is_a_function_of_the_step(three_files: list[Path], tmp_path: Path) -> None:
    whole = steps(load(three_files, tmp_path), 0, [40])
    pieces = steps(load(three_files, tmp_path), 0, [1, 2, 30, 7])
    resumed = steps(load(three_files, tmp_path), 17, [5, 18])
    np.testing.assert_array_equal(pieces, whole)
    np.testing.assert_array_equal(resumed, whole[1700:])


def test_windows_smaller_than_the_data(
    three_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_pipeline, "WINDOW_BLOCKS", 2)
    data = load(three_files, tmp_path)
    order = steps(data, 0, [26])
    assert sorted(order[:1300]) == sorted(order[1300:]) == list(range(1300))
    np.testing.assert_array_equal(steps(data, 6, [20]), order[600:])


def test_evaluation_reads_in_order_and_again(three_files: list[Path], tmp_path: Path) -> None:
    data = load(three_files, tmp_path)
    taken = [
        numbers(batch) for batch in input_pipeline.sequential_batches(data, batch_size=7, steps=200)
    ]
    np.testing.assert_array_equal(np.concatenate(taken), np.arange(1400) % 1300)


def test_gzip_files_are_the_same_data(three_files: list[Path], tmp_path: Path) -> None:
    packed = []
    for path in three_files:
        packed.append(tmp_path / f"{path.name}.gz")
        with gzip.open(packed[-1], "wb") as stream:
            stream.write(path.read_bytes())
    expected = steps(load(three_files, tmp_path / "a"), 3, [12])
    np.testing.assert_array_equal(steps(load(packed, tmp_path / "b"), 3, [12]), expected)
    np.testing.assert_array_equal(steps(load(packed, tmp_path / "b"), 3, [12]), expected)
    packed[0].write_bytes(packed[0].read_bytes()[:-30])
    with pytest.raises(UserError, match="gzip"):
        load(packed, tmp_path / "c")


def test_a_second_start_does_not_walk_through_the_data(
    three_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = steps(load(three_files, tmp_path), 0, [13])

    def walk(*_: object) -> None:
        raise AssertionError("the data was read through again")

    with monkeypatch.context() as patch:
        patch.setattr(record_index, "_walk", walk)
        np.testing.assert_array_equal(steps(load(three_files, tmp_path), 0, [13]), expected)
        copy = Path(shutil.copy(three_files[0], tmp_path / "new.tfrecord"))
        with pytest.raises(AssertionError):
            load([copy], tmp_path)
    (tmp_path / record_index.CACHE_NAME).write_bytes(b"PK broken")
    np.testing.assert_array_equal(steps(load(three_files, tmp_path), 0, [13]), expected)


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"length": 13}, ("input_ids has 13 values, expected 11", "--max_seq_length")),
        ({"predictions": 2}, ("has 2 values, expected 3", "--max_predictions_per_seq")),
        ({"segment_ids": None}, ("no feature segment_ids",)),
        ({"input_mask": [1.0] * 11}, ("input_mask holds another type",)),
        ({"input_ids": [7] * 10 + [1000]}, ("input_ids holds a value outside 0 to 999",)),
        ({"masked_lm_ids": [-1] * 3}, ("masked_lm_ids holds a value outside 0 to 999",)),
        ({"masked_lm_positions": [11] * 3}, ("masked_lm_positions holds a value outside 0 to 10",)),
        ({"segment_ids": [2] * 11}, ("segment_ids holds a value outside 0 to 1",)),
        ({"next_sentence_labels": [2]}, ("next_sentence_labels holds a value outside 0 to 1",)),
    ],
)
def test_first_records_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], fragments: tuple[str, ...]
) -> None:
    path = write(tmp_path / "wrong.tfrecord", [example(1, **changes)])
    with pytest.raises(UserError) as raised:
        load([path], tmp_path / "cache")
    for fragment in (str(path), "record 0 at byte 0", *fragments):
        assert fragment in str(raised.value)


@pytest.mark.parametrize(
    ("damage", "fragment"),
    [
        (lambda data, at: data[: at + 40], "ends in the middle"),
        (lambda data, at: data[: at + 5], "ends in the middle"),
        (lambda data, at: data[:at] + b"\x07" + data[at + 1 :], "checksum of its length"),
        (lambda data, at: b"", "empty"),
    ],
)
def test_broken_frames_are_found_at_the_start(tmp_path: Path, damage: Any, fragment: str) -> None:
    record = example(1)
    at = 3 * len(framed(record))
    path = write(tmp_path / "broken.tfrecord", [record] * 5)
    path.write_bytes(damage(path.read_bytes(), at))
    with pytest.raises(UserError) as raised:
        load([path], tmp_path / "cache")
    assert fragment in str(raised.value)
    if path.stat().st_size:
        assert f"record 3 at byte {at}" in str(raised.value)


def test_a_flipped_byte_is_found_when_it_is_read(tmp_path: Path) -> None:
    record = example(1)
    frame = len(framed(record))
    path = write(tmp_path / "flipped.tfrecord", [record] * 600)
    data = bytearray(path.read_bytes())
    data[550 * frame + 40] ^= 1
    path.write_bytes(data)
    loaded = load([path], tmp_path / "cache")
    with (
        pytest.raises(UserError, match=f"record 550 at byte {550 * frame}: the checksum"),
        Batches(loaded, batch_size=600, seed=1) as batches,
    ):
        batches.take(1)


def test_text_is_no_tfrecord_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("plain text, as a user may give by mistake\n" * 10)
    with pytest.raises(UserError, match="no TFRecord file") as raised:
        load([path], tmp_path / "cache")
    assert "mistake" not in str(raised.value)


def test_random_bytes_in_good_frames_are_no_examples(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    good = bytearray(example(1))
    for trial in range(300):
        record = bytearray(good)
        for at in draw.integers(0, len(good), 1 + trial % 5):
            record[at] = draw.integers(0, 256)
        path = write(
            tmp_path / "random.tfrecord", [bytes(record[: draw.integers(1, len(good) + 1)])]
        )
        try:
            load([path], tmp_path / "cache")
        except UserError as error:
            assert "record 0 at byte 0" in str(error)


def test_other_forms_of_the_same_example(tmp_path: Path) -> None:
    """Unpacked lists, features in another order and features nobody asked for."""
    from google.protobuf.internal.encoder import _VarintBytes as varint

    def field(number: int, wire: int, body: bytes) -> bytes:
        return varint(number << 3 | wire) + (varint(len(body)) + body if wire == 2 else body)

    def feature(name: str, kind: int, values: bytes) -> bytes:
        return field(1, 2, field(1, 2, name.encode()) + field(2, 2, field(kind, 2, values)))

    unpacked = b"".join(field(1, 0, varint(value)) for value in [300] * 11)
    floats = b"".join(field(1, 5, np.float32(0.5).tobytes()) for _ in range(3))
    rest = tf.train.Example.FromString(example(4))
    for name in ("input_ids", "masked_lm_weights"):
        del rest.features.feature[name]
    rest.features.feature["extra"].bytes_list.value.append(b"unused")
    body = feature("masked_lm_weights", 2, floats) + feature("input_ids", 3, unpacked)
    inner = rest.features.SerializeToString()
    path = write(tmp_path / "forms.tfrecord", [field(1, 2, body + inner)])
    data = load([path], tmp_path / "cache")
    (batch,) = input_pipeline.sequential_batches(data, batch_size=1, steps=1)
    assert batch["input_ids"].tolist() == [[300] * 11]
    assert batch["masked_lm_weights"].tolist() == [[0.5] * 3]


def test_a_fingerprint_tells_content_and_no_names(tmp_path: Path) -> None:
    records = [example(number) for number in range(600)]
    one = load([write(tmp_path / "a", records)], tmp_path / "c1").fingerprint()
    (tmp_path / "elsewhere").mkdir()
    copy = load([write(tmp_path / "elsewhere" / "b", records)], tmp_path / "c2").fingerprint()
    assert copy == one
    assert one.startswith("600 examples in 1 file(s), sha256 ")
    for name, other in {
        "first": [example(7), *records[1:]],
        "later block": [*records[:256], example(7), *records[257:]],
        "fewer": records[:-1],
    }.items():
        assert load([write(tmp_path / name, other)], tmp_path / "c3").fingerprint() != one, name
    halves = [write(tmp_path / "h1", records[:300]), write(tmp_path / "h2", records[300:])]
    swapped = load(halves[::-1], tmp_path / "c4").fingerprint()
    assert load(halves, tmp_path / "c4").fingerprint() not in (swapped, one)
