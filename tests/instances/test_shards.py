"""A folder of shards that several programs fill, as the tasks of an array job do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bert_clinical.instances import shards
from bert_clinical.instances.settings import InstanceSettings
from data_prep.common import atomic_files
from data_prep.common.atomic_files import PartialFile
from data_prep.common.errors import UserError
from tests.golden_data import golden

SETTINGS = InstanceSettings(max_seq_length=32, max_predictions_per_seq=5, dupe_factor=1)


def make(inputs: list[Path], output_dir: Path) -> None:
    shards.make_shards(
        shards=shards.plan_shards(inputs, [output_dir]),
        vocab_file=golden("vocab_cased.txt"),
        do_lower_case=False,
        settings=[SETTINGS],
        buffer_bytes=1 << 20,
        num_workers=1,
    )


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    (tmp_path / "out").mkdir()
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    for path in paths:
        path.write_text("The patient was seen.\nNo pain.\n\nShe was well.\nShe went home.\n" * 3)
    return paths


def test_programs_with_other_inputs_share_a_folder(tmp_path: Path, texts: list[Path]) -> None:
    out = tmp_path / "out"
    threads = [threading.Thread(target=make, args=([text], out)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in out.iterdir()) == [
        "a.tfrecord", "a.tfrecord.json", "b.tfrecord", "b.tfrecord.json",
    ]  # fmt: skip


def test_a_shard_that_another_program_makes_is_told(
    tmp_path: Path, texts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_SECONDS_TO_END", 0.0)
    out = tmp_path / "out"
    with PartialFile(out / "a.tfrecord") as other:
        with pytest.raises(UserError, match=r"a\.tfrecord: another program is writing it"):
            make(texts, out)
        make(texts[1:], out)
        assert (out / "b.tfrecord").exists() and not (out / "a.tfrecord").exists()
        # The other's work is as it was.
        other.stream.write(b"its own")
        other.finish()
        other.commit()
    assert (out / "a.tfrecord").read_bytes() == b"its own"
