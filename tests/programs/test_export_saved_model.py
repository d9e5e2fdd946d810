"""`export_saved_model`: its SavedModel in a process that knows nothing of this project."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.inference.graph_tokenizer import GraphTokenizer
from bert_clinical.modeling import BertModel
from bert_clinical.nn.tensorflow import tf
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.weights.pretrained import PretrainedModel, load_from_checkpoint
from bert_clinical.wordpieces.model_tokenizer import TokenizerRules
from bert_clinical.wordpieces.vocabulary import read_vocabulary
from tests.full_disk import files_up_to
from tests.golden_data import SHARED_NOTES, golden
from tests.running import (
    HANG_SECONDS,
    assert_one_line_error,
    assert_success,
    run_here,
    run_program,
)
from tests.theirs import needs_transformers

MODULE = "bert_clinical.export_saved_model"
MAX_SEQ_LENGTH = 64
TOLERANCE = 1e-5
PLANTED = "Quixzandorph"
BY_HAND = [
    "",
    " \n\t ",
    "[CLS] [UNK] [MASK] ##s",
    f"{'x' * 200} {'y' * 201} {'é' * 200} {'é' * 201} {'ab' * 100} {'ab' * 101}",
    "a\x00b\ufffdc\u200bd\x85e\u2028f\u2029g\u00a0h\u3000i\x1cj",
    "ΟΔΥΣΣΕΥΣ ΟΔΟΣ. İSTANBUL ISTANBUL Straße ẞ ﬁ naïve Ǆ K",
    "\u4e2d\u6587abc\uf900\U00020000 \u037e \u1fef e\u0301 \u0301",
    "T 38.5\u00b0C, BP 120/80 -- [**2101-10-3**] `a`^b$c+d<e=f>|~",
]

LOADER = """
import json, sys
import numpy as np
import tensorflow as tf
import tensorflow_text

folder, texts_file, output = sys.argv[1:]
texts = json.load(open(texts_file, encoding="utf-8"))
serve = tf.saved_model.load(folder).signatures["serving_default"]
found = {}
for start in range(0, len(texts), 64):
    answer = serve(text=tf.constant([text.encode() for text in texts[start : start + 64]]))
    for name, value in answer.items():
        found[f"{name}/{start}"] = value.numpy()
assert not any(name.split(".")[0] in ("bert_clinical", "data_prep") for name in sys.modules)
np.savez(output, **found)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Checkpoint folders by casing, with the same weights."""
    made = {}
    for casing in ("cased", "uncased"):
        folder = tmp_path_factory.mktemp("models") / casing
        shutil.copytree(golden("init"), folder)
        shutil.copy(golden("model/bert_config.json"), folder)
        shutil.copy(golden(f"vocab_{casing}.txt"), folder / "vocab.txt")
        made[casing] = folder
    return made


def read(folder: Path, *, do_lower_case: bool) -> PretrainedModel:
    return load_from_checkpoint(
        init_checkpoint=str(folder), bert_config_file=folder / "bert_config.json",
        vocab_file=folder / "vocab.txt", do_lower_case=do_lower_case, gelu="erf",
    )  # fmt: skip


def golden_texts(*, lower: bool) -> list[str]:
    with gzip.open(golden("tokens_small.jsonl.gz"), "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [row["text"] for row in rows if row["lower"] == lower]


def note_texts() -> list[str]:
    """Returns lines of real dialogue notes, where they lie beside the project."""
    if not SHARED_NOTES.is_file():
        return []
    with SHARED_NOTES.open(newline="", encoding="utf-8") as stream:
        notes = [max(row.values(), key=len) for row in csv.DictReader(stream)]
    return [line for note in notes[:40] for line in note.splitlines()]


def load_elsewhere(folder: Path, texts: list[str], where: Path) -> list[dict[str, np.ndarray]]:
    """Returns the outputs by name for each text, from a process without this project."""
    (where / "texts.json").write_text(json.dumps(texts))
    (where / "load.py").write_text(LOADER)
    result = subprocess.run(
        [sys.executable, "-I", "load.py", str(folder), "texts.json", "out.npz"],
        cwd=where,
        # A server's language must not change what lower case is.
        env={**os.environ, "LC_ALL": "tr_TR.UTF-8", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert result.returncode == 0, result.stderr
    found: list[dict[str, np.ndarray]] = [{} for _ in texts]
    with np.load(where / "out.npz") as archive:
        for name in archive.files:
            output, _, start = name.partition("/")
            for number, row in enumerate(archive[name], int(start)):
                found[number][output] = row
    return found


@pytest.mark.slow
@pytest.mark.parametrize("casing", ["cased", "uncased"])
def test_a_process_without_this_project_gets_the_same(models, tmp_path, casing):
    lower = casing == "uncased"
    made = tmp_path / "made" / "served"
    result = run_program(
        MODULE, model_dir=models[casing], output_dir=made, do_lower_case=lower, gelu="erf",
        max_seq_length=MAX_SEQ_LENGTH,
    )  # fmt: skip
    assert_success(result)
    assert not result.stderr
    served = tmp_path / "moved"
    made.rename(served)
    assert [path.name for path in served.iterdir()] == ["1"]
    assert (served / "1/assets/vocab.txt").read_bytes() == (
        models[casing] / "vocab.txt"
    ).read_bytes()

    texts = [*BY_HAND, *golden_texts(lower=lower), *note_texts()]
    found = load_elsewhere(served / "1", texts, tmp_path)
    model = read(models[casing], do_lower_case=lower)
    tokenizer = model.tokenizer()
    weights = {name: tf.constant(value) for name, value in model.weights.items()}
    encoder = BertModel(model.config, gelu="erf")
    for number, (text, row) in enumerate(zip(texts, found, strict=True)):
        assert set(row) == {
            "pooled_output", "sequence_output", "input_ids", "input_mask", "num_wordpieces",
        }  # fmt: skip
        pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        cls, sep = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
        expected = [cls, *pieces[: MAX_SEQ_LENGTH - 2], sep]
        size = len(expected)
        assert row["input_ids"][:size].tolist() == expected, f"text {number}"
        assert not row["input_ids"][size:].any()
        assert row["input_mask"].tolist() == [1] * size + [0] * (len(row["input_ids"]) - size)
        assert row["num_wordpieces"] == len(pieces) + 2
        if number % 20 == 0 or number < len(BY_HAND):
            output = encoder(weights, tf.constant([expected]))
            for name in ("pooled_output", "sequence_output"):
                answer = row[name][:size] if name == "sequence_output" else row[name]
                assert np.abs(answer - getattr(output, name)[0]).max() < TOLERANCE


@pytest.mark.parametrize("lower", [False, True])
def test_words_differ_only_where_unicode_is_younger_than_a_table(lower, tmp_path):
    vocab = golden("vocab_uncased.txt" if lower else "vocab_cased.txt")
    basic = FullTokenizer(vocab, lower).basic_tokenizer
    graph = GraphTokenizer(
        tmp_path, read_vocabulary(vocab, 1000), TokenizerRules(lower), max_seq_length=16
    )
    codes = [code for code in range(0x12000) if not 0xD800 <= code < 0xE000]
    texts = [f"aB{chr(code)}Cd e" for code in codes]
    found = graph.words(tf.constant([text.encode() for text in texts])).to_list()
    different = [
        code
        for code, text, words in zip(codes, texts, found, strict=True)
        if [word.decode() for word in words] != basic.tokenize(text)
    ]
    # Python 3.11 knows Unicode 14, Python 3.12 Unicode 15, TensorFlow 2.21 one of them or less.
    assert len(different) < 150
    assert {unicodedata.category(chr(code)) for code in different} <= {"Cn", "Lu", "Mn", "Po"}
    assert not any(code < 0xECE for code in different)


def test_bytes_that_are_not_utf8_are_left_out(tmp_path):
    vocab = golden("vocab_cased.txt")
    tokenizer = FullTokenizer(vocab, False)
    graph = GraphTokenizer(
        tmp_path, read_vocabulary(vocab, 1000), TokenizerRules(False), max_seq_length=32
    )
    text = b"pain\xff in\xc3 the \xe4\xb8chest"
    ids, _, _ = graph(tf.constant([text]))
    assert ids[0, 1:-1].numpy().tolist() == tokenizer.convert_tokens_to_ids(
        tokenizer.tokenize(text)
    )


@needs_transformers
def test_without_a_pooler_there_is_no_pooled_output(tmp_path, capsys):
    from tests.conversion.test_convert import save_odd_model

    bare = save_odd_model(tmp_path / "bare", "BertForMaskedLM")
    result = run_here(
        capsys, MODULE, model_dir=bare, output_dir=tmp_path / "out", max_seq_length=41, version=7
    )
    assert_success(result)
    assert "gives no pooled_output" in result.stdout
    answer = tf.saved_model.load(str(tmp_path / "out/7")).signatures["serving_default"](
        text=tf.constant(["w1 w2", "w3 w4 w5"])
    )
    assert set(answer) == {"sequence_output", "input_ids", "input_mask", "num_wordpieces"}
    assert answer["sequence_output"].shape == (2, 5, 26)
    # A server's batches may be empty.
    none = tf.saved_model.load(str(tmp_path / "out/7")).signatures["serving_default"](
        text=tf.constant([], tf.string)
    )
    assert none["sequence_output"].shape == (0, 2, 26)
    assert none["num_wordpieces"].shape == (0,)


def test_models_of_one_process_keep_their_vocabularies(models, tmp_path, capsys):
    text, out = "the Patient denies fever", tmp_path / "out"
    loaded = {}
    for casing in models:
        lower = casing == "uncased"
        flags = {"model_dir": models[casing], "do_lower_case": lower, "output_dir": out}
        assert_success(run_here(capsys, MODULE, **flags))
        loaded[casing] = tf.saved_model.load(str(out / "1"))
    for casing, served in loaded.items():
        tokenizer = FullTokenizer(models[casing] / "vocab.txt", casing == "uncased")
        tokens = ["[CLS]", *tokenizer.tokenize(text), "[SEP]"]
        ids = served.signatures["serving_default"](text=tf.constant([text]))["input_ids"]
        assert ids[0].numpy().tolist() == tokenizer.convert_tokens_to_ids(tokens)


def test_versions_stand_beside_each_other_and_are_replaced_whole(models, tmp_path, capsys):
    flags = {"model_dir": models["cased"], "do_lower_case": False, "output_dir": tmp_path / "out"}
    for version, length in ((1, 16), (2, 32), (1, 64)):
        result = run_here(capsys, MODULE, version=version, max_seq_length=length, **flags)
        assert_success(result)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1", "2"]
    lengths = [
        json.loads((tmp_path / f"out/{version}/conversion.json").read_text())["max_seq_length"]
        for version in (1, 2)
    ]
    assert lengths == [64, 32]


def test_a_full_disk_leaves_nothing(models, tmp_path, capsys):
    out = tmp_path / "out"
    # The vocabulary has room, the variables have none.
    with files_up_to(100_000):
        result = run_here(
            capsys, MODULE, model_dir=models["cased"], do_lower_case=False, output_dir=out
        )
    assert_one_line_error(result, 1, str(out), "File too large", "check the space")
    assert list(out.iterdir()) == []


def test_mistakes_are_one_line(models, tmp_path, capsys):
    planted = tmp_path / "planted"
    (planted / "1").mkdir(parents=True)
    (planted / "1" / "notes.txt").write_text(PLANTED)
    short = tmp_path / "short"
    shutil.copytree(models["cased"], short)
    lines = (short / "vocab.txt").read_text().splitlines()
    (short / "vocab.txt").write_text("\n".join([*lines[:-200], PLANTED]) + "\n")
    doubled = tmp_path / "doubled"
    shutil.copytree(models["cased"], doubled)
    (doubled / "vocab.txt").write_text("\n".join([*lines[:-2], PLANTED, PLANTED]) + "\n")
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    flags = {"model_dir": models["cased"], "do_lower_case": False, "output_dir": tmp_path / "out"}
    for changes, status, fragments in (
        ({"model_dir": None}, 2, ["model_dir"]),
        ({"output_dir": None}, 2, ["output_dir"]),
        ({"version": 0}, 2, ["version"]),
        ({"max_seq_length": 2}, 2, ["max_seq_length"]),
        ({"gelu": "relu"}, 2, ["gelu"]),
        ({"do_lower_case": None}, 2, ["--do_lower_case is needed"]),
        ({"text": PLANTED[:4]}, 2, ["is no flag of this program"]),
        ({"do_lower_case": True}, 1, ["--do_lower_case is true"]),
        ({"max_seq_length": 129}, 1, ["takes 128 positions"]),
        ({"model_dir": nothing}, 1, ["bert_config.json"]),
        ({"model_dir": short}, 1, ["holds 801 entries"]),
        ({"model_dir": doubled}, 1, ["hold the same entry"]),
        ({"vocab_file": golden("vocab_uncased.txt")}, 1, ["--do_lower_case is false"]),
        ({"output_dir": models["cased"] / "vocab.txt"}, 1, ["is a file"]),
        ({"output_dir": planted}, 1, ["no output of export_saved_model"]),
    ):
        result = run_here(capsys, MODULE, **{**flags, **changes})
        assert_one_line_error(result, status, *fragments)
        assert PLANTED not in result.stdout + result.stderr
        assert not (tmp_path / "out").exists()
    assert (planted / "1" / "notes.txt").read_text() == PLANTED
