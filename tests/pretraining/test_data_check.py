"""What the sidecars of the data say against what a run expects."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.data_check import require_fitting_sidecars
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.tfrecords.sidecars import write_sidecar
from data_prep.common.errors import UserError
from tests.golden_data import golden

CONFIG = BertConfig(vocab_size=1000, type_vocab_size=2)


def made_with(do_lower_case: bool, digest: str = "a") -> dict[str, Any]:
    flags = {"do_lower_case": do_lower_case, "max_seq_length": 128, "max_predictions_per_seq": 20}
    return {"flags": flags, "vocabulary": {"entries": 1000, "sha256": digest}}


def model_of(vocab_size: int) -> BertConfig:
    return BertConfig(vocab_size=vocab_size, type_vocab_size=2)


@pytest.mark.parametrize(
    ("entries", "vocab_size", "fitting"),
    [
        (28996, 28996, True),
        (28996, 29056, True),
        (28996, 30522, False),
        (30522, 28996, False),
        (28996, 28997, False),
        (None, 30522, True),
        ("many", 30522, True),
    ],
)
def test_the_vocabularies_size(
    tmp_path: Path, entries: Any, vocab_size: int, fitting: bool
) -> None:
    """Also for the data that padded embeddings are trained on."""
    path = str(tmp_path / "a.tfrecord")
    write_sidecar(path, {"vocabulary": {"entries": entries}})
    raised = nullcontext() if fitting else pytest.raises(UserError, match=f"of {entries:,} entries")
    with raised:
        require_fitting_sidecars([path], TrainingOptions(), model_of(vocab_size), "config")


def check(folder: Path, *sidecars: dict[str, Any], init_checkpoint: Path | None = None) -> int:
    """Returns how many sidecars were found to fit."""
    paths = [str(folder / f"{number}.tfrecord") for number in range(len(sidecars))]
    for path, sidecar in zip(paths, sidecars, strict=True):
        write_sidecar(path, sidecar)
    checkpoint = None if init_checkpoint is None else str(init_checkpoint)
    return len(require_fitting_sidecars(paths, TrainingOptions(), CONFIG, "config", checkpoint))


def test_data_that_is_alike(tmp_path: Path) -> None:
    assert check(tmp_path, made_with(False), made_with(False), {}) == 3


@pytest.mark.parametrize(
    ("second", "fragment"),
    [
        (made_with(True), "--do_lower_case=True, and .*0.tfrecord with --do_lower_case=False"),
        (made_with(False, "b"), "1.tfrecord: was made with another vocabulary file"),
    ],
)
def test_data_of_two_kinds(tmp_path: Path, second: dict[str, Any], fragment: str) -> None:
    with pytest.raises(UserError, match=fragment):
        check(tmp_path, made_with(False), second)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("name", ["", "bert_model.ckpt", "bert_model.ckpt.index"])
def test_the_vocabulary_beside_the_checkpoint_tells_the_casing(
    tmp_path: Path, lower: bool, name: str
) -> None:
    vocab_file = golden(f"vocab_{'un' * lower}cased.txt")
    (tmp_path / "vocab.txt").write_bytes(vocab_file.read_bytes())
    assert check(tmp_path, made_with(lower), init_checkpoint=tmp_path / name) == 1
    with pytest.raises(UserError, match=f"make the data with --do_lower_case={lower}"):
        check(tmp_path, made_with(not lower), init_checkpoint=tmp_path / name)


def test_the_name_of_a_released_model_tells_the_casing(tmp_path: Path) -> None:
    checkpoint = tmp_path / "cased_L-12_H-768_A-12" / "bert_model.ckpt"
    assert check(tmp_path, made_with(False), init_checkpoint=checkpoint) == 1
    with pytest.raises(UserError, match=r"0\.tfrecord: .* is a cased model"):
        check(tmp_path, made_with(True), init_checkpoint=checkpoint)
