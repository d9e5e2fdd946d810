"""The descriptions that stand beside TFRecord files."""

import pytest

from bert_clinical.tfrecords.sidecars import read_sidecar, write_sidecar
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
