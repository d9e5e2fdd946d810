"""The descriptions that stand beside TFRecord files."""

import pytest

from bert_clinical.tfrecords.digests import Digests
from bert_clinical.tfrecords.sidecars import (
    believed_sidecar,
    doubts,
    read_sidecar,
    write_sidecar,
)
from data_prep.common import atomic_files
from data_prep.common.errors import UserError


def test_sidecar(tmp_path):
    path = tmp_path / "a.tfrecord"
    assert read_sidecar(path) is None
    write_sidecar(path, {"flags": {"max_seq_length": 128}})
    assert read_sidecar(path) == {"flags": {"max_seq_length": 128}}
    assert (tmp_path / "a.tfrecord.json").exists()
    for text in ("[]", "{", "\xff"):
        (tmp_path / "a.tfrecord.json").write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=r"a\.tfrecord\.json: (not a JSON object|broken JSON)"):
            read_sidecar(path)


def test_a_sidecar_of_another_file_is_named_and_not_believed(tmp_path, caplog):
    first, second, third = (tmp_path / f"{name}.tfrecord" for name in "abc")
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    third.write_bytes(b"three")
    about = {"outputs": [atomic_files.fingerprint(path) for path in (first, second)]}
    for path in (first, second, third):
        write_sidecar(path, about)
    assert believed_sidecar(first, Digests()) == believed_sidecar(second, Digests()) == about
    assert caplog.text == ""
    assert believed_sidecar(third, Digests()) is None
    assert "c.tfrecord.json does not belong to the file beside it" in caplog.text
    first.write_bytes(b"ONE")
    assert believed_sidecar(first, Digests()) is None
    assert "a.tfrecord.json does not belong" in caplog.text
    renamed = second.rename(tmp_path / "renamed.tfrecord")
    write_sidecar(renamed, about)
    assert believed_sidecar(renamed, Digests()) == about


@pytest.mark.parametrize("outputs", [None, ["a.tfrecord"], [{"name": "a.tfrecord"}], 5])
def test_a_sidecar_that_records_no_checksum_is_believed(tmp_path, outputs):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"one")
    write_sidecar(path, {"outputs": outputs})
    assert believed_sidecar(path, Digests()) == {"outputs": outputs}


def made(documents, instances, random_next):
    counts = {"documents": documents, "instances": instances, "random_next": random_next}
    return {"counts": counts}


@pytest.mark.parametrize(
    ("descriptions", "fragments"),
    [
        ([made(9, 100, 52)], []),
        ([made(9, 100, 80)], []),
        ([made(9, 100, 100)], ["100% of the next sentences are random"]),
        ([made(9, 100, 97), made(9, 101, 50)], []),
        ([made(1, 100, 50)], ["the input holds one document only"]),
        ([made(1, 10, 10)], ["one document only", "100% of the next sentences"]),
        ([made(1, 10, 5), made(1, 11, 5)], ["each input holds one document only"]),
        ([made(1, 10, 5), made(9, 11, 5)], []),
        ([{}, {"counts": 3}, {"counts": {"documents": "x"}}], []),
    ],
)
def test_doubts(descriptions, fragments):
    found = doubts(descriptions)
    assert len(found) == len(fragments)
    for line, fragment in zip(found, fragments, strict=True):
        assert fragment in line
