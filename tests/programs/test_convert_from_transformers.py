"""`convert_from_transformers` as its user runs it: what it says, writes and refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.weights import checkpoint, pytorch_process
from bert_clinical.weights.transformers_tokenizer import write_tokenizer
from bert_clinical.wordpieces.model_tokenizer import AddedToken, TokenizerRules
from bert_clinical.wordpieces.vocabulary import read_vocabulary
from tests.conversion.test_convert import odd_vocabulary, save_odd_model, to_transformers
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here, run_program
from tests.theirs import needs_transformers, theirs

pytestmark = needs_transformers

MODULE = "bert_clinical.convert_from_transformers"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_odd_model(tmp_path_factory.mktemp("theirs") / "model")


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """A copy of the model to spoil."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def set_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.slow
def test_a_folder_of_ours_comes_back(tmp_path):
    to_transformers(golden("init"), tmp_path / "to", gelu="erf")
    result = run_program(MODULE, transformers_dir=tmp_path / "to", output_dir=tmp_path / "back")
    assert_success(result)
    assert not result.stderr
    for line in ("46 weights found of 46", "--gelu=erf", "--do_lower_case=False"):
        assert line in result.stdout
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [
        "bert_config.json",
        "bert_model.ckpt.data-00000-of-00001",
        "bert_model.ckpt.index",
        "conversion.json",
        "vocab.txt",
    ]
    again = run_program(
        "bert_clinical.convert_to_transformers",
        init_checkpoint=tmp_path / "back",
        bert_config_file=tmp_path / "back" / "bert_config.json",
        vocab_file=tmp_path / "back" / "vocab.txt",
        do_lower_case=False,
        output_dir=tmp_path / "again",
    )
    assert_one_line_error(again, 1, "conversion.json", "pass --gelu=erf")


def test_a_casing_that_the_vocabulary_contradicts_is_not_advised(tmp_path, capsys):
    folder = tmp_path / "to"
    to_transformers(golden("init"), folder, gelu="erf")
    write_tokenizer(
        folder,
        read_vocabulary(golden("vocab_cased.txt"), 1000),
        rules=TokenizerRules(do_lower_case=True),
        max_length=128,
    )
    result = run_here(capsys, MODULE, transformers_dir=folder, output_dir=tmp_path / "out")
    assert_success(result)
    assert "--do_lower_case=True" not in result.stdout + result.stderr
    assert "hold capitals and can never be used; make its examples with --do_lower_case=False" in (
        result.stderr
    )


def test_an_earlier_output_is_replaced_and_nothing_else(folder, tmp_path, capsys):
    flags = {"transformers_dir": folder, "output_dir": tmp_path / "out"}
    assert_success(run_here(capsys, MODULE, **flags))
    assert_success(run_here(capsys, MODULE, **flags))
    (tmp_path / "out" / "model.ckpt-9.index").write_text("a user's")
    assert_one_line_error(run_here(capsys, MODULE, **flags), 1, "model.ckpt-9.index")
    (tmp_path / "out" / "conversion.json").unlink()
    assert_one_line_error(run_here(capsys, MODULE, **flags), 1, "no output of")


def test_a_model_without_pooler_gets_one_where_asked_for(tmp_path, capsys):
    folder = save_odd_model(tmp_path / "model", "BertForMaskedLM")
    flags = {"transformers_dir": folder, "output_dir": tmp_path / "out"}
    assert_one_line_error(run_here(capsys, MODULE, **flags), 1, "pooler", "--init_missing_pooler")
    result = run_here(capsys, MODULE, "--init_missing_pooler", **flags)
    assert_success(result)
    assert "bert/pooler: absent, drawn anew" in result.stdout
    assert "cls/seq_relationship: absent" in result.stdout
    kernel = checkpoint.read_tensors(str(tmp_path / "out" / "bert_model.ckpt"))[
        "bert/pooler/dense/kernel"
    ]
    assert kernel.shape == (26, 26)
    assert 0.2 < kernel.std() / 0.3 < 1.0 and np.abs(kernel).max() <= 0.6


def test_added_words_become_entries(folder, tmp_path, capsys):
    write_odd_tokenizer(folder, ["w31"], added_tokens=(AddedToken("w31", outside=True),))
    result = run_here(capsys, MODULE, transformers_dir=folder, output_dir=tmp_path / "out")
    assert_success(result)
    assert "1 added tokens become entries of vocab.txt" in result.stderr
    assert (tmp_path / "out" / "vocab.txt").read_text().splitlines() == odd_vocabulary()


def test_a_padded_vocabulary_goes_there_and_back(tmp_path, capsys):
    folder = save_odd_model(tmp_path / "model", vocab_size=40)
    out = tmp_path / "out"
    assert_success(run_here(capsys, MODULE, transformers_dir=folder, output_dir=out))
    assert (out / "vocab.txt").read_text().splitlines() == odd_vocabulary()
    assert json.loads((out / "bert_config.json").read_text())["vocab_size"] == 40
    result = run_here(
        capsys, "bert_clinical.convert_to_transformers", init_checkpoint=out,
        bert_config_file=out / "bert_config.json", vocab_file=out / "vocab.txt",
        do_lower_case=True, gelu="erf", output_dir=tmp_path / "again",
    )  # fmt: skip
    assert_success(result)
    before = theirs("state", folder, "BertForPreTraining")
    after = theirs("state", tmp_path / "again", "BertForPreTraining")
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_the_longest_sequence_of_training_is_kept(folder, tmp_path, capsys):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 17}))
    out = tmp_path / "out"
    assert_success(run_here(capsys, MODULE, transformers_dir=folder, output_dir=out))
    assert json.loads((out / "conversion.json").read_text())["max_seq_length"] == 17
    result = run_here(
        capsys, "bert_clinical.convert_to_transformers", init_checkpoint=out,
        bert_config_file=out / "bert_config.json", vocab_file=out / "vocab.txt",
        do_lower_case=True, gelu="erf", output_dir=tmp_path / "again", verify=False,
    )  # fmt: skip
    assert_success(result)
    settings = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 17
    card = (tmp_path / "again" / "README.md").read_text()
    assert "trained on sequences of at most 17 WordPieces" in card


def spoil_weights(folder: Path, **changes) -> None:
    """Rewrites the weights as PyTorch's file with some changed, or left out where None."""
    theirs("save_as_torch", folder, changes)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def write_odd_tokenizer(folder: Path, last: Sequence[str] = (), **rules) -> None:
    """Writes the odd vocabulary, with other last entries, under other rules than Google's."""
    tokens = [*odd_vocabulary()[: 37 - len(last)], *last]
    write_tokenizer(folder, tokens, rules=TokenizerRules(True, **rules), max_length=41)


def remove(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def cut_weights(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 20_000)


def write(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def poison(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    theirs("save_harmful", folder)


def shard_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"cls.predictions.bias": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


MISTAKES = {
    "no config": (remove("config.json"), ["config.json", "No such file"]),
    "broken config": (write("config.json", "{"), ["config.json", "broken JSON"]),
    "a list for a config": (write("config.json", "[]"), ["found a JSON list"]),
    "RoBERTa": (lambda f: set_config(f, model_type="roberta"), ["'roberta'", "expected 'bert'"]),
    "DistilBERT": (lambda f: set_config(f, model_type="distilbert"), ["'distilbert'"]),
    "Google's config": (
        lambda f: shutil.copy(golden("model/bert_config.json"), f / "config.json"),
        ["Google's bert_config.json"],
    ),
    "relative positions": (
        lambda f: set_config(f, position_embedding_type="relative_key"),
        ["'relative_key'", "'absolute'"],
    ),
    "a decoder": (lambda f: set_config(f, is_decoder=True), ["is_decoder", "bidirectional"]),
    "another epsilon": (lambda f: set_config(f, layer_norm_eps=1e-5), ["layer_norm_eps 1e-05"]),
    "another activation": (lambda f: set_config(f, hidden_act="swish"), ["hidden_act 'swish'"]),
    "another width": (lambda f: set_config(f, intermediate_size=20), ["has shape", "[20, 26]"]),
    "another layer count": (lambda f: set_config(f, num_hidden_layers=4), ["layer.3", "holds no"]),
    "fewer layers": (lambda f: set_config(f, num_hidden_layers=2), ["encoder.layer.2"]),
    "no weights": (remove("model.safetensors"), ["holds no weights"]),
    "cut weights": (cut_weights, ["model.safetensors", "20,000 bytes"]),
    "no safetensors": (write("model.safetensors", "x" * 99), ["model.safetensors"]),
    "a missing shard": (shard_missing, ["model-00001-of-00002.safetensors", "not there"]),
    "a harmful pickle": (poison, ["weights only"]),
    "a cut pickle": (
        lambda f: [spoil_weights(f), os.truncate(f / "pytorch_model.bin", 5000)],
        ["weights only"],
    ),
    "a classifier": (
        lambda f: spoil_weights(f, **{"classifier.weight": zeros(2, 26)}),
        ["classifier.weight", "head for another task"],
    ),
    "half a head": (
        lambda f: spoil_weights(f, **{"cls.predictions.bias": None}),
        ["holds no cls.predictions.bias"],
    ),
    "an untied decoder": (
        lambda f: spoil_weights(f, **{"cls.predictions.decoder.weight": zeros(37, 26)}),
        ["decoder.weight differs"],
    ),
    "NaN": (
        lambda f: spoil_weights(f, **{"cls.predictions.bias": np.full(37, np.nan, np.float32)}),
        ["NaN"],
    ),
    "no vocabulary": (remove("vocab.txt", "tokenizer.json"), ["neither vocab.txt nor"]),
    "a short vocabulary": (
        write("vocab.txt", "\n".join(odd_vocabulary()[:-1])),
        ["36 entries", "vocab_size is 37"],
    ),
    "an entry twice": (
        write("vocab.txt", "\n".join([*odd_vocabulary()[:-1], "w3"])),
        ["lines 9 and 37"],
    ),
    "a BPE tokenizer": (
        lambda f: [
            remove("vocab.txt")(f),
            write("tokenizer.json", '{"model": {"type": "BPE", "vocab": {}}}')(f),
        ],
        ["BPE tokenizer, expected WordPiece"],
    ),
    "accents that stay": (
        lambda f: write_odd_tokenizer(f, strip_accents=False),
        ["strip_accents false", "--do_lower_case only"],
    ),
    "ideographs in words": (
        lambda f: write_odd_tokenizer(f, tokenize_chinese_chars=False),
        ["tokenize_chinese_chars false"],
    ),
    "added tokens that are no words": (
        lambda f: write_odd_tokenizer(
            f,
            ["w31", "[DE-ID]"],
            added_tokens=(AddedToken("w31", outside=True), AddedToken("[DE-ID]", outside=True)),
        ),
        ["1 of 2 added tokens are no words", "id 36"],
    ),
    "never_split": (
        lambda f: write("tokenizer_config.json", '{"never_split": ["w3"]}')(f),
        ["never_split"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(folder, tmp_path, capsys, mistake):
    spoil, fragments = MISTAKES[mistake]
    spoil(folder)
    result = run_here(capsys, MODULE, transformers_dir=folder, output_dir=tmp_path / "out")
    assert_one_line_error(result, 1, *fragments)
    assert "harm" not in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_the_same_folder_twice(folder, capsys):
    result = run_here(capsys, MODULE, transformers_dir=folder, output_dir=folder)
    assert_one_line_error(result, 1, "same folder")


@pytest.mark.parametrize("flag", ["transformers_dir", "output_dir"])
def test_a_flag_missing(folder, tmp_path, capsys, flag):
    flags = {"transformers_dir": folder, "output_dir": tmp_path / "out", flag: None}
    assert_one_line_error(run_here(capsys, MODULE, **flags), 2, flag)


def test_no_such_folder(tmp_path, capsys):
    flags = {"transformers_dir": tmp_path / "gone", "output_dir": tmp_path / "out"}
    assert_one_line_error(run_here(capsys, MODULE, **flags), 1, "gone is no folder")


def test_torch_is_needed_only_for_its_own_format(folder, tmp_path, capsys, monkeypatch):
    """Stands in for an installation without PyTorch."""
    monkeypatch.setattr(pytorch_process, "is_available", lambda *_: False)
    flags = {"transformers_dir": folder, "output_dir": tmp_path / "out"}
    assert_success(run_here(capsys, MODULE, **flags))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    result = run_here(capsys, MODULE, **flags)
    assert_one_line_error(result, 1, "PyTorch is needed", "model.safetensors")
