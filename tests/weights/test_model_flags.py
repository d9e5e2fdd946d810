"""What a program's flags name, and how long its sequences may be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from absl import flags

from bert_clinical.nn.config import BertConfig
from bert_clinical.weights import model_flags
from bert_clinical.weights.model_flags import NamedModel
from bert_clinical.weights.pretrained import PretrainedModel, load_from_checkpoint
from bert_clinical.wordpieces.model_tokenizer import TokenizerRules
from data_prep.common.errors import UsageError, UserError
from data_prep.common.program import ProgramFlags
from tests.golden_data import golden


def model(trained_length: int | None) -> PretrainedModel:
    config = BertConfig(vocab_size=9, max_position_embeddings=512)
    return PretrainedModel(
        config, "tanh", [], TokenizerRules(False), {}, "m/model.ckpt-9",
        trained_length=trained_length,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("max_seq_length", "trained_length", "is_warned_of"),
    [(128, 128, False), (129, 128, True), (512, None, False), (100, 128, False)],
)
def test_sequences_longer_than_those_of_training_are_warned_of(
    max_seq_length: int,
    trained_length: int | None,
    is_warned_of: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model_flags.require_positions(max_seq_length, model(trained_length))
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert bool(warned) == is_warned_of
    if warned:
        assert "m/model.ckpt-9 was trained on sequences of at most 128" in caplog.text


def test_sequences_longer_than_the_model_are_refused() -> None:
    with pytest.raises(UserError, match="--max_seq_length is 513, but the model takes 512"):
        model_flags.require_positions(513, model(None))


@pytest.mark.parametrize(
    ("record", "known"),
    [
        (None, None),
        ('{"flags": {"max_seq_length": 64}}', 64),
        ('{"flags": {"max_seq_length": 128}}', None),
        ('{"flags": {"max_seq_length": "x"}}', None),
        # Of several runs, the longest of all.
        ('{"flags": {"max_seq_length": 64}, "parent": {"flags": {"max_seq_length": 96}}}', 96),
        ('{"flags": {"max_seq_length": 128}, "parent": {"flags": {"max_seq_length": 64}}}', None),
        (
            '{"flags": {"max_seq_length": 32}, "parent": {"parent": {"flags": '
            '{"max_seq_length": 64}}}}',
            64,
        ),
        ('{"flags": {"max_seq_length": 32}, "parent": [1]}', 32),
        ('{"flags": 3}', None),
    ],
)
def test_a_checkpoint_knows_the_sequences_of_its_training(
    record: str | None, known: int | None, tmp_path: Path
) -> None:
    for path in golden("init").iterdir():
        shutil.copy(path, tmp_path)
    if record is not None:
        (tmp_path / "pretraining_run.json").write_text(record)
    found = load_from_checkpoint(
        init_checkpoint=str(tmp_path), bert_config_file=golden("model/bert_config.json"),
        vocab_file=golden("vocab_cased.txt"), do_lower_case=False,
    )  # fmt: skip
    assert found.trained_length == known


def parsed(*arguments: str, default: bool | None) -> NamedModel:
    values = ProgramFlags()
    for name in ("model_dir", "init_checkpoint", "bert_config_file", "vocab_file"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    flags.DEFINE_bool("do_lower_case", default, "", flag_values=values)
    values.parse("test", arguments)
    return model_flags.read(values)


@pytest.mark.parametrize("default", [None, True])
def test_a_default_casing_is_a_checkpoints_alone(default: bool | None) -> None:
    assert parsed("--model_dir=m", default=default).do_lower_case is None
    assert parsed("--model_dir=m", "--do_lower_case=false", default=default).do_lower_case is False
    assert parsed("--init_checkpoint=c", default=default).do_lower_case is default
    found = parsed("--init_checkpoint=c", "--vocab_file=v", default=default)
    assert found == NamedModel(init_checkpoint="c", vocab_file="v", do_lower_case=default)


def test_a_folder_says_what_a_checkpoint_needs(tmp_path: Path) -> None:
    shutil.copytree(golden("init"), tmp_path / "m")
    shutil.copy(golden("model/bert_config.json"), tmp_path / "m")
    shutil.copy(golden("vocab_cased.txt"), tmp_path / "m" / "vocab.txt")
    with pytest.raises(UsageError, match="--do_lower_case is needed"):
        NamedModel(model_dir=str(tmp_path / "m")).load()
    found = NamedModel(model_dir=str(tmp_path / "m"), do_lower_case=False, gelu="erf").load()
    assert (found.gelu, found.do_lower_case, len(found.tokens)) == ("erf", False, 1000)
    again = NamedModel(model_dir="elsewhere").load_reference(str(tmp_path / "m"), found)
    assert (again.gelu, "cls/predictions/output_bias" in again.weights) == ("erf", True)
