"""Models as they lie on the disk, read for use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.conversion.convert import convert_to_transformers
from bert_clinical.nn.config import BertConfig
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.weights import checkpoint
from bert_clinical.weights.pretrained import (
    PretrainedModel,
    load_from_checkpoint,
    load_from_transformers,
)
from bert_clinical.weights.safetensors_files import iterate_weights, read_shapes, write_weights
from bert_clinical.wordpieces.vocabulary import read_vocabulary
from data_prep.common.errors import UserError
from tests.golden_data import golden

INIT = str(golden("init"))
CONFIG = golden("model/bert_config.json")
VOCAB = golden("vocab_cased.txt")

Weights = dict[str, np.ndarray]


def load(**changes) -> PretrainedModel:
    flags = {"init_checkpoint": INIT, "bert_config_file": CONFIG, "vocab_file": VOCAB,
             "do_lower_case": False}  # fmt: skip
    return load_from_checkpoint(**{**flags, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = BertConfig.from_json_file(CONFIG)
    convert_to_transformers(
        prefix=checkpoint.resolve_checkpoint(INIT), config=config,
        tokens=read_vocabulary(VOCAB, config.vocab_size), do_lower_case=False, gelu="erf",
        output_dir=tmp_path / "model",
    )  # fmt: skip
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[Weights], None]) -> None:
    path = folder / "model.safetensors"
    weights = dict(iterate_weights(path, list(read_shapes(path))))
    change(weights)
    write_weights(folder, {name: value.shape for name, value in weights.items()}, weights.items())


@pytest.mark.parametrize("heads", [False, True])
def test_checkpoint_and_folder_give_the_same_model(folder: Path, heads: bool) -> None:
    first = load(heads=heads, gelu="erf")
    second = load_from_transformers(folder, heads=heads)
    assert any(name.startswith("cls/") for name in first.weights) == heads
    assert first.weights.keys() == second.weights.keys()
    for name, value in first.weights.items():
        assert np.array_equal(value, second.weights[name]), name
    assert (first.gelu, first.do_lower_case, first.tokens) == ("erf", False, second.tokens)
    assert (second.gelu, second.do_lower_case) == ("erf", False)
    text = "Chest PAIN, naïve \u200b[MASK] haemoptysis"
    reference = FullTokenizer(VOCAB, do_lower_case=False)
    assert second.tokenizer().tokenize(text) == reference.tokenize(text)


def test_moments_of_adam_are_no_weights() -> None:
    found = load(init_checkpoint=str(golden("init_bertadam")))
    expected = load()
    assert found.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        assert np.array_equal(value, found.weights[name]), name


def test_gelu_is_what_the_folder_records(tmp_path: Path) -> None:
    for path in golden("init").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert load(init_checkpoint=str(tmp_path)).gelu == "tanh"
    (tmp_path / "conversion.json").write_text(json.dumps({"gelu": "erf"}))
    assert load(init_checkpoint=str(tmp_path)).gelu == "erf"
    with pytest.raises(UserError, match="pass --gelu=erf"):
        load(init_checkpoint=str(tmp_path), gelu="tanh")


def test_casing_must_fit(folder: Path) -> None:
    with pytest.raises(UserError, match="--do_lower_case is true"):
        load(do_lower_case=True)
    assert load(do_lower_case=True, check_case=False).do_lower_case
    with pytest.raises(UserError, match="says False; leave the flag out"):
        load_from_transformers(folder, do_lower_case=True)
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="does not say whether"):
        load_from_transformers(folder)
    assert not load_from_transformers(folder, do_lower_case=False).do_lower_case
    with pytest.raises(UserError, match="--do_lower_case is true"):
        load_from_transformers(folder, do_lower_case=True)
    assert load_from_transformers(folder, do_lower_case=True, check_case=False).do_lower_case
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    with pytest.raises(UserError, match=r"276 of 995 .* correct do_lower_case in tokenizer_config"):
        load_from_transformers(folder)
    assert load_from_transformers(folder, check_case=False).do_lower_case


def test_a_folder_without_pooler_or_heads(folder: Path) -> None:
    def strip(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith(("bert.pooler", "cls."))]:
            del weights[name]

    rewrite(folder, strip)
    found = load_from_transformers(folder, heads=True)
    expected = {n for n in load().weights if not n.startswith("bert/pooler")}
    assert found.weights.keys() == expected


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda w: w.pop("bert.pooler.dense.bias"), "holds no bert.pooler.dense.bias"),
        (
            lambda w: w.pop("bert.encoder.layer.1.output.dense.bias"),
            "holds no bert.encoder.layer.1",
        ),
        (lambda w: w.update({"bert.extra": np.zeros(2, np.float32)}), "bert.extra (of 1 such)"),
        (
            lambda w: w.update({"bert.pooler.dense.bias": np.zeros(7, np.float32)}),
            "has shape [7], expected [32]",
        ),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change, fragment: str) -> None:
    rewrite(folder, change)
    with pytest.raises(UserError) as caught:
        load_from_transformers(folder)
    assert fragment in str(caught.value)


def test_extra_weights_are_read_and_other_heads_left_out(folder: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    rewrite(folder, lambda weights: weights.update({"classifier.weight": values}))
    plain = load_from_transformers(folder)
    assert plain.extra == {}
    found = load_from_transformers(folder, extra_shapes={"classifier.weight": (3, 2)})
    assert np.array_equal(found.extra["classifier.weight"], values)
    assert found.weights.keys() == plain.weights.keys()
    with pytest.raises(UserError, match=r"holds no classifier\.bias"):
        load_from_transformers(folder, extra_shapes={"classifier.bias": (3,)})


def test_shapes_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    shapes = {"b": (2, 3), "c": (), "a": (1,)}
    tensors = [(name, np.ones(shape, np.float32)) for name, shape in shapes.items()]
    write_weights(tmp_path, shapes, tensors)
    assert list(read_shapes(tmp_path / "model.safetensors").items()) == list(shapes.items())
