"""Folders that transformers saves: honoured as it honours them, or refused by what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.fill_mask import predict
from bert_clinical.inference.graph_tokenizer import GraphTokenizer
from bert_clinical.modeling import BertModel
from bert_clinical.nn.heads import masked_lm_logits
from bert_clinical.nn.tensorflow import tf
from bert_clinical.weights.pretrained import PretrainedModel, load_from_transformers
from bert_clinical.weights.transformers_tokenizer import write_tokenizer
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common.errors import UserError
from tests.conversion.test_convert import ODD
from tests.running import assert_one_line_error, assert_success, run_here
from tests.theirs import needs_transformers, theirs

pytestmark = needs_transformers

TOLERANCE = 1e-5
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = [
    *SPECIAL,
    *(mark + c for mark in ("", "##") for c in f"{LETTERS}{LETTERS.upper()}áÁ中文0123456789[]-_."),
    *("pain", "chest", "Pain", "heart"),
]
TEXTS = [
    "Chest pain, heart failure; CHEST PAIN.",
    "xheart failurex heart  failure heart\tfailure [DEID] [deid] [DEID]x",
    "metoprolol METOPROLOL xmetoprololx metoprolol_2 metoprolol-2",
    "áÁ a\u0301 naïve 中文 x中y",
    "pain\u200bful pa\u200bin hea\u00adrt failure",
    "Á中metoprolol[DEID]中metoprolol.metoprolol",
    "",
    "  ",
]

CASED = {"do_lower_case": False}
UNCASED = {"do_lower_case": True}
ADDED = [
    {"content": "metoprolol"},
    {"content": "heart failure"},
    {"content": "[DEID]", "normalized": False, "special": True},
    {"content": "Á中"},
]
RULES = {
    "cased": (CASED, []),
    "uncased": (UNCASED, []),
    "cased without accents": ({**CASED, "strip_accents": True}, []),
    "uncased with accents": ({**UNCASED, "strip_accents": False}, []),
    "ideographs in words": ({**CASED, "tokenize_chinese_chars": False}, []),
    "added tokens": (CASED, ADDED),
    "added tokens, uncased": (UNCASED, ADDED),
    "added tokens, all rules": (
        {**UNCASED, "strip_accents": False, "tokenize_chinese_chars": False},
        ADDED,
    ),
    "an entry as an added token": (
        CASED,
        [{"content": "pain"}, {"content": "ab", "special": True}],
    ),
    "single words": (CASED, [{"content": "metoprolol", "single_word": True}]),
    "white space around": (CASED, [{"content": "metoprolol", "lstrip": True, "rstrip": True}]),
}


def save(
    folder: Path,
    settings: dict[str, Any] = CASED,
    added: Any = (),
    kind: str = "BertForMaskedLM",
    **config: Any,
) -> Path:
    size = theirs("save_tokenizer", folder, TOKENS, settings, list(added))
    sizes = {**ODD, "vocab_size": size, "initializer_range": 0.3, **config}
    theirs("save_model", folder, kind, sizes)
    return folder


def load(folder: Path, **changes: Any) -> PretrainedModel:
    return load_from_transformers(folder, check_case=False, **changes)


def expected_ids(folder: Path) -> list[list[int]]:
    return theirs("tokenize", folder, TEXTS, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", RULES)
def test_texts_become_the_ids_of_transformers(name: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", *RULES[name])
    model = load(folder)
    expected = expected_ids(folder)
    tokenizer, encoder = model.tokenizer(), TextEncoder(model.tokenizer())
    for text, ids in zip(TEXTS, expected, strict=True):
        assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) == ids, text
        assert encoder.encode(text) == ids, text
    # What we write is read again, by us and by transformers.
    again = tmp_path / "again"
    again.mkdir()
    write_tokenizer(again, model.tokens, rules=model.rules, max_length=41)
    (again / "config.json").write_bytes((folder / "config.json").read_bytes())
    (again / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert expected_ids(again) == expected
    assert load(again).rules == model.rules
    assert load(again).tokens == model.tokens


@pytest.mark.parametrize("name", [name for name in RULES if name != "single words"])
def test_a_graph_gives_the_same_ids(name: str, tmp_path: Path) -> None:
    model = load(save(tmp_path / "model", *RULES[name]))
    graph = GraphTokenizer(tmp_path, model.tokens, model.rules, max_seq_length=64)
    found, mask, sizes = graph(tf.constant([text.encode() for text in TEXTS]))
    encoder = TextEncoder(model.tokenizer())
    for number, text in enumerate(TEXTS):
        ids = [encoder.cls_id, *encoder.encode(text), encoder.sep_id]
        assert found[number][: len(ids)].numpy().tolist() == ids, text
        assert int(sizes[number]) == int(tf.reduce_sum(mask[number])) == len(ids)


def test_what_a_graph_cannot_do_is_refused(tmp_path: Path) -> None:
    model = load(save(tmp_path / "model", *RULES["single words"]))
    with pytest.raises(UserError, match="single_word"):
        GraphTokenizer(tmp_path, model.tokens, model.rules, max_seq_length=64)


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text()) if path.is_file() else {}
    for key, value in changes.items():
        place = content
        *parents, last = key.split("/")
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(json.dumps(content))


def settings(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "tokenizer_config.json", **changes)


def description(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "tokenizer.json", **changes)


def without(name: str, key: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        del content[key]
        (folder / name).write_text(json.dumps(content))

    return change


REFUSED = {
    "never_split": (settings(never_split=["pain"]), "never_split"),
    "no basic tokenizer": (settings(do_basic_tokenize=False), "do_basic_tokenize"),
    "another class": (settings(tokenizer_class="BertJapaneseTokenizer"), "'BertJapaneseTokenizer'"),
    "another [CLS]": (settings(cls_token="<s>"), "cls_token is not BERT's"),
    "two casings": (description(**{"normalizer/lowercase": True}), "lowercase true"),
    "a casing that transformers overlooks": (
        without("tokenizer_config.json", "do_lower_case"),
        "takes do_lower_case true",
    ),
    "two ways with accents": (description(**{"normalizer/strip_accents": True}), "strip_accents"),
    "two ways with ideographs": (
        description(**{"normalizer/handle_chinese_chars": False}),
        "tokenize_chinese_chars true",
    ),
    "no number": (settings(do_lower_case="no"), "do_lower_case is 'no'"),
    "another normalizer": (
        description(**{"normalizer/type": "Sequence"}),
        "normalizer is Sequence",
    ),
    "another splitter": (
        description(**{"pre_tokenizer/type": "Whitespace"}),
        "pre_tokenizer is Whitespace",
    ),
    "text that is not cleaned": (description(**{"normalizer/clean_text": False}), "clean_text"),
    "other marks": (
        description(**{"model/continuing_subword_prefix": "@@"}),
        "pieces within words begin with '@@'",
    ),
    "another [UNK]": (description(**{"model/unk_token": "<unk>"}), "unk_token is not BERT's"),
    "another limit of words": (
        lambda folder: (
            edit(folder, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"),
            edit(folder, "tokenizer.json", **{"model/max_input_chars_per_word": 50}),
        ),
        "max_input_chars_per_word is 50",
    ),
    "ids that are none": (description(**{"model/vocab": {"a": "b"}}), "no vocab of tokens and ids"),
    "a special token without an id": (
        settings(additional_special_tokens=["[NEW]"]),
        "special token that its vocabulary does not hold",
    ),
    "two vocabularies": (
        lambda folder: (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *TOKENS[:4:-1]])),
        "different vocabularies",
    ),
    "two descriptions of a token": (
        settings(added_tokens_decoder={"1": {"content": "[UNK]", "single_word": True}}),
        "describe the added token of id 1 differently",
    ),
    "a token at another id": (
        lambda folder: edit(folder, "added_tokens.json", pain=3),
        "an added token has id 3",
    ),
    "a gap": (
        lambda folder: edit(folder, "added_tokens.json", new=4000),
        "are not 0 to",
    ),
    "white space at the edge": (
        lambda folder: (
            edit(folder, "added_tokens.json", **{" new": len(TOKENS)}),
            edit(folder, "config.json", vocab_size=len(TOKENS) + 1),
        ),
        "white space",
    ),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("plain") / "model")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_named(name: str, plain: Path, tmp_path: Path) -> None:
    for path in plain.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    change, fragment = REFUSED[name]
    change(tmp_path)
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def predictions(folder: Path, text: str, count: int = 5) -> list[tuple[str, float]]:
    [found] = predict(load(folder, heads=True), text, top_k=count)
    return found


def assert_same(folder: Path, text: str = "the [MASK] pain") -> None:
    expected = theirs("fill_mask", folder, text, 5)
    found = predictions(folder, text)
    assert [piece for piece, _ in found] == [piece for _, piece in expected]
    for (_, ours), (score, _) in zip(found, expected, strict=True):
        assert abs(ours - score) < TOLERANCE


def test_a_masked_lm_needs_no_pooler(tmp_path: Path) -> None:
    assert_same(save(tmp_path))


def test_an_untied_decoder_is_used(tmp_path: Path) -> None:
    folder = save(tmp_path)
    before = predictions(folder, "the [MASK] pain")
    theirs("change_weights", folder, "BertForMaskedLM", decoder=True)
    assert_same(folder)
    assert predictions(folder, "the [MASK] pain") != before
    # An encoder alone does not mind.
    assert load(folder).output_embeddings is None
    edit(folder, "config.json", tie_word_embeddings=True)
    with pytest.raises(UserError, match=r"decoder\.weight differs .* tie_word_embeddings"):
        load(folder, heads=True)


def test_a_decoder_that_is_announced_must_be_there(tmp_path: Path) -> None:
    folder = save(tmp_path)
    edit(folder, "config.json", tie_word_embeddings=False)
    with pytest.raises(UserError, match=r"no cls\.predictions\.decoder\.weight"):
        load(folder, heads=True)


@pytest.mark.parametrize("multiple", [8, 64])
def test_padding_of_the_vocabulary_is_never_predicted(multiple: int, tmp_path: Path) -> None:
    folder = save(tmp_path)
    rows = -(-len(TOKENS) // multiple) * multiple
    assert rows > len(TOKENS)
    theirs("change_weights", folder, "BertForMaskedLM", rows=rows)
    model = load(folder, heads=True)
    assert (model.config.vocab_size, list(model.tokens)) == (rows, TOKENS)
    found = predictions(folder, "the [MASK] pain", count=10 * rows)
    assert sorted(piece for piece, _ in found) == sorted(TOKENS)
    ids = model.tokenizer().convert_tokens_to_ids(["[CLS]", "t", "[MASK]", "pain", "[SEP]"])
    [logits] = theirs("masked_lm_logits", folder, "BertForMaskedLM", np.array([ids]))
    powers = np.exp(logits[2] - logits[2].max())
    scores = dict(zip(TOKENS, powers / powers.sum(), strict=False))
    for piece, probability in predictions(folder, "t [MASK] pain"):
        assert abs(probability - scores[piece]) < TOLERANCE


@pytest.mark.parametrize("torch_format", [False, True])
def test_the_prefix_of_data_parallel_is_no_part_of_a_name(
    torch_format: bool, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save(tmp_path)
    expected = load(folder, heads=True)
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({f"module.{name}": value for name, value in weights.items()}, path)
    if torch_format:
        theirs("save_as_torch", folder)
    found = load(folder, heads=True)
    assert found.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        assert np.array_equal(found.weights[name], value)


@pytest.mark.parametrize(("stated", "known"), [(41, None), (17, 17), (512, None), (10**30, None)])
def test_the_longest_sequence_of_training_is_the_tokenizers(
    stated: int, known: int | None, plain: Path, tmp_path: Path
) -> None:
    for path in plain.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edit(tmp_path, "tokenizer_config.json", model_max_length=stated)
    assert load(tmp_path).trained_length == known


def test_logits_err_by_float32_alone(tmp_path: Path) -> None:
    """A logit adds products that cancel; float32 rounds by their size, not by the logit's.

    So logits of a large model, whose products add up to some 60 without their signs, differ from
    PyTorch's by more than 1e-5 where hidden states differ by less.
    """
    folder = save(tmp_path, hidden_size=416, num_attention_heads=13, initializer_range=0.5)
    model = load(folder, heads=True)
    ids = tf.constant([[2, *range(9, 40), 3]])
    encoder = BertModel(model.config, gelu=model.gelu)
    weights = {n: tf.constant(v) for n, v in {**model.weights, **model.encoder_weights()}.items()}
    vectors = encoder(weights, ids).sequence_output[0]
    table = model.weights["bert/embeddings/word_embeddings"]
    logits = masked_lm_logits(weights, vectors, table, encoder.activation).numpy()
    bias = "cls/predictions/output_bias"
    transformed = masked_lm_logits(
        {**weights, bias: tf.zeros(416)}, vectors, np.eye(416, dtype=np.float32), encoder.activation
    ).numpy()
    exact = transformed.astype(np.float64) @ table.T.astype(np.float64) + model.weights[bias]
    size = np.abs(transformed) @ np.abs(table.T)
    error = np.abs(logits - exact)
    assert error.max() > TOLERANCE / 10
    assert (error / (size + 1)).max() < 5e-7


@pytest.fixture(scope="module")
def with_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all rules, whose model was trained on sequences of 17 WordPieces."""
    folder = save(tmp_path_factory.mktemp("rules") / "model", *RULES["added tokens, all rules"])
    edit(folder, "tokenizer_config.json", model_max_length=17)
    return folder


def test_extract_features_goes_by_the_folders_rules(
    with_rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [text for text in TEXTS if text.strip() and "\t" not in text]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in lines))
    result = run_here(
        capsys, "bert_clinical.extract_features", "--nocheck_case", model_dir=with_rules,
        input_file=tmp_path / "texts.txt", output_file=tmp_path / "out.jsonl", layers="-1",
        max_seq_length=41,
    )  # fmt: skip
    assert_success(result)
    assert "was trained on sequences of at most 17 WordPieces" in result.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = [[feature["token"] for feature in row["features"]] for row in rows]
    ids = theirs("tokenize", with_rules, lines, truncation=True, max_length=41)["input_ids"]
    tokens = load(with_rules).tokens
    assert found == [[tokens[number] for number in row] for row in ids]


def test_a_fine_tuned_folder_has_the_rules_of_the_one_before(
    with_rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{text}\t{label}\n" for text in ("pain", "metoprolol") for label in "ab")
    for part in ("train", "test"):
        (tmp_path / f"{part}.tsv").write_text(f"sentence1\tlabel\n{rows}")
    result = run_here(
        capsys, "bert_clinical.run_classifier", "--nocheck_case", "--do_train", "--do_predict",
        transformers_dir=with_rules, data_dir=tmp_path, output_dir=tmp_path / "out",
        task_name="tsv", max_seq_length=20, train_batch_size=2, num_train_epochs=1,
    )  # fmt: skip
    assert_success(result)
    assert "was trained on sequences of at most 17 WordPieces" in result.stderr
    before, after = load(with_rules), load(tmp_path / "out")
    assert (after.rules, after.tokens, after.trained_length) == (before.rules, before.tokens, 20)
    assert expected_ids(tmp_path / "out") == expected_ids(with_rules)


def test_convert_from_transformers_refuses_what_its_files_cannot_say(
    with_rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_here(
        capsys, "bert_clinical.convert_from_transformers", transformers_dir=with_rules,
        output_dir=tmp_path / "out",
    )  # fmt: skip
    assert_one_line_error(result, 1, "strip_accents false", "--do_lower_case only")
    assert not (tmp_path / "out").exists()
