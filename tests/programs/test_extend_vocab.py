"""`extend_vocab` as its user runs it: what it chooses, writes, says and refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.modeling import BertModel
from bert_clinical.nn.heads import masked_lm_logits
from bert_clinical.nn.tensorflow import tf
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.weights.model_flags import NamedModel
from bert_clinical.weights.pretrained import PretrainedModel
from tests.conversion.test_convert import save_odd_model, to_transformers
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here
from tests.theirs import needs_transformers

MODULE = "bert_clinical.extend_vocab"
NAME = "Quixzandorph"
PATIENTS = 60
# Words that 60 patients have, each in two notes, and a name that one has in all his 99.
WORDS = (
    "Metoprolol",
    "warfarin",
    "cardiomyopathy",
    "zoledronic",
    "haemoglobin",
    "sputum",
    "quinsy",
)
OFTEN = f"{' '.join(WORDS)} were given ."


@pytest.fixture
def text(tmp_path: Path) -> Path:
    notes = [(f"p{n % PATIENTS}", OFTEN) for n in range(2 * PATIENTS)]
    notes += [("one", f"{NAME} was seen .") for _ in range(99)]
    path = tmp_path / "discharge_summary.txt"
    path.write_text("\n".join(f"{note}\n" for _, note in notes))
    (tmp_path / f"{path.name}.patients").write_text("".join(f"{who}\n" for who, _ in notes))
    return path


@pytest.fixture
def inputs(text: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "init_checkpoint": golden("init"),
        "bert_config_file": golden("model/bert_config.json"),
        "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": False,
        "input_file": text,
        "num_new_entries": 5,
        "output_dir": tmp_path / "out",
    }


def entries_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "new_entries.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def load(folder: Path, **changes: Any) -> PretrainedModel:
    named = {"model_dir": str(folder), "do_lower_case": False, **changes}
    return NamedModel(**named).load(heads=True)


def outputs(model: PretrainedModel, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the encoder's output and the logits for all entries."""
    weights = {name: tf.constant(value) for name, value in model.weights.items()}
    encoder = BertModel(model.config, gelu="tanh")
    found = encoder(weights, tf.constant([ids], tf.int32)).sequence_output[0]
    logits = masked_lm_logits(weights, found, model.logits_table(), encoder.activation)
    return found.numpy(), logits.numpy()


def test_what_it_writes(inputs, tmp_path, capsys):
    result = run_here(capsys, MODULE, **inputs)
    assert_success(result)
    assert not result.stderr
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "bert_config.json",
        "bert_model.ckpt.data-00000-of-00001",
        "bert_model.ckpt.index",
        "conversion.json",
        "extend_report.html",
        "new_entries.csv",
        "vocab.txt",
    ]
    assert all(path.stat().st_mode & 0o077 == 0 for path in out.iterdir())
    old = golden("vocab_cased.txt").read_text().splitlines()
    new = (out / "vocab.txt").read_text().splitlines()
    entries = entries_of(out)
    assert new[: len(old)] == old and new[len(old) :] == [e["entry"] for e in entries]
    assert [int(e["id"]) for e in entries] == list(range(1000, 1005))
    tokenizer = FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False)
    costs = {word: len(tokenizer.tokenize(word)) for word in WORDS}
    # No word begins with another, and none has an end in common, so each is worth what it costs.
    expected = sorted(WORDS, key=lambda word: (-costs[word], word))[:5]
    assert [e["entry"] for e in entries] == expected
    for entry in entries:
        assert int(entry["saved"]) == 2 * PATIENTS * (costs[entry["entry"]] - 1)
        assert entry["spelt_by"].split() == tokenizer.tokenize(entry["entry"])
    config = json.loads((out / "bert_config.json").read_text())
    before = json.loads(golden("model/bert_config.json").read_text())
    assert config == {**before, "vocab_size": 1005}
    record = json.loads((out / "conversion.json").read_text())
    assert record["program"] == "extend_vocab" and record["extension"]["counted"] == "patients"
    assert_tells_no_name(out, result.stdout + result.stderr)


def assert_tells_no_name(folder: Path, said: str) -> None:
    for text in (said, *(p.read_text() for p in folder.iterdir() if ".ckpt" not in p.name)):
        assert NAME not in text and "andorph" not in text


def test_old_entries_are_what_they_were(inputs, tmp_path, capsys):
    assert_success(run_here(capsys, MODULE, **inputs))
    old = load(
        golden("init"), bert_config_file=str(golden("model/bert_config.json")),
        vocab_file=str(golden("vocab_cased.txt")),
    )  # fmt: skip
    new = load(tmp_path / "out")
    for name, value in old.weights.items():
        assert new.weights[name].dtype == value.dtype
        np.testing.assert_array_equal(new.weights[name][: len(value)], value)
    spelling = [
        [old.tokens.index(piece) for piece in entry["spelt_by"].split()]
        for entry in entries_of(tmp_path / "out")
    ]
    for name in ("bert/embeddings/word_embeddings", "cls/predictions/output_bias"):
        mean = np.stack([old.weights[name][ids].mean(axis=0) for ids in spelling])
        np.testing.assert_allclose(new.weights[name][1000:], mean, rtol=1e-5, atol=1e-7)
    sentence = "The patient was seen on the floor ."
    ids = old.tokenizer().convert_tokens_to_ids(old.tokenizer().tokenize(sentence))
    assert new.tokenizer().tokenize(sentence) == old.tokenizer().tokenize(sentence)
    encoded, logits = outputs(old, ids)
    encoded_after, logits_after = outputs(new, ids)
    np.testing.assert_array_equal(encoded_after, encoded)
    # A product of another width may be summed in another order; seen: 0.
    np.testing.assert_allclose(logits_after[:, :1000], logits, rtol=0, atol=1e-6)


def test_unused_places_first_where_told(inputs, tmp_path, capsys):
    tokens = golden("vocab_cased.txt").read_text().splitlines()
    places = [number for number, token in enumerate(tokens) if token.startswith("[unused")]
    flags = {**inputs, "num_new_entries": 3, "fill_unused": True}
    if len(places) < 2:
        # Entries that no word of the text has.
        places = [997, 998]
        tokens[997:999] = ["[unused1]", "[unused2]"]
        (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
        flags["vocab_file"] = tmp_path / "vocab.txt"
    assert_success(run_here(capsys, MODULE, **flags))
    entries = entries_of(tmp_path / "out")
    assert [int(entry["id"]) for entry in entries] == [*places[:2], 1000]
    new = (tmp_path / "out" / "vocab.txt").read_text().splitlines()
    for number, (before, after) in enumerate(zip(tokens, new, strict=False)):
        assert (before == after) is (number not in places[:2])
    assert json.loads((tmp_path / "out" / "bert_config.json").read_text())["vocab_size"] == 1001


def test_names_are_kept_out_by_patients_and_shown_to_be_a_danger_without(
    inputs, text, tmp_path, capsys
):
    (tmp_path / f"{text.name}.patients").unlink()
    result = run_here(capsys, MODULE, **{**inputs, "num_new_entries": 30})
    assert_success(result)
    assert "Documents are counted, not patients" in result.stderr
    # 99 documents are enough, as the program has warned.
    assert NAME in {entry["entry"] for entry in entries_of(tmp_path / "out")}
    assert NAME not in result.stdout + result.stderr
    page = (tmp_path / "out" / "extend_report.html").read_text()
    assert NAME not in page and "Not shown: nothing says whose the documents are" in page


def test_the_report_shows_entries_only_of_many_patients(inputs, tmp_path, capsys):
    assert_success(run_here(capsys, MODULE, **inputs))
    page = (tmp_path / "out" / "extend_report.html").read_text()
    for shown in ("cardiomyopathy", "at least 50 patients", "discharge_summary", "MB", "of before"):
        assert shown in page
    result = run_here(capsys, MODULE, **{**inputs, "min_documents": 19})
    assert_success(result)
    assert "--min_documents is 19" in result.stderr
    page = (tmp_path / "out" / "extend_report.html").read_text()
    assert "cardiomyopathy" not in page and "Not shown: --min_documents is 19" in page


def test_rows_drawn_anew(inputs, tmp_path, capsys):
    assert_success(run_here(capsys, MODULE, **{**inputs, "new_rows": "random"}))
    new = load(tmp_path / "out")
    rows = new.weights["bert/embeddings/word_embeddings"][1000:]
    assert 0 < np.abs(rows).max() <= 2 * new.config.initializer_range
    np.testing.assert_array_equal(new.weights["cls/predictions/output_bias"][1000:], 0)


def test_fewer_entries_than_asked_and_none(inputs, tmp_path, capsys):
    result = run_here(capsys, MODULE, **{**inputs, "num_new_entries": 500})
    assert_success(result)
    found = len(entries_of(tmp_path / "out"))
    assert 5 < found < 500 and f"The text yields {found} entries of 500" in result.stdout
    kept = (tmp_path / "out" / "vocab.txt").read_bytes()
    result = run_here(capsys, MODULE, **{**inputs, "min_documents": 61})
    assert_one_line_error(result, 1, "no entry would save anything", "--min_documents=61")
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "discharge_summary.txt", "discharge_summary.txt.patients", "out",
    ]  # fmt: skip


def test_what_a_folder_tells_of_its_model_is_told_on(inputs, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(golden("init"), model)
    record = {"flags": {"gelu": "erf", "max_seq_length": 64}}
    (model / "pretraining_run.json").write_text(json.dumps(record))
    assert_success(run_here(capsys, MODULE, **{**inputs, "init_checkpoint": model}))
    told = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert (told["gelu"], told["max_seq_length"], told["do_lower_case"]) == ("erf", 64, False)
    again = {"init_checkpoint": tmp_path / "out", "output_dir": tmp_path / "again"}
    again |= {
        "bert_config_file": tmp_path / "out" / "bert_config.json",
        "vocab_file": tmp_path / "out" / "vocab.txt",
    }
    assert_success(run_here(capsys, MODULE, **{**inputs, **again}))
    told = json.loads((tmp_path / "again" / "conversion.json").read_text())
    assert (told["gelu"], told["max_seq_length"]) == ("erf", 64)
    assert len((tmp_path / "again" / "vocab.txt").read_text().splitlines()) > 1005


def test_a_vocabulary_that_the_model_was_not_trained_with_is_refused(inputs, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(golden("init"), model)
    sidecar = {"flags": {"do_lower_case": False}, "vocabulary": {"sha256": "0" * 64}}
    record = {"flags": {"input_file": "x"}, "data": {"x": sidecar}}
    (model / "pretraining_run.json").write_text(json.dumps(record))
    result = run_here(capsys, MODULE, **{**inputs, "init_checkpoint": model})
    assert_one_line_error(result, 1, "--vocab_file", "is another file than", "SHA-256")


@needs_transformers
def test_a_transformers_folder(inputs, tmp_path, capsys):
    folder = to_transformers(golden("init"), tmp_path / "theirs", gelu="erf")
    flags = {name: inputs[name] for name in ("input_file", "num_new_entries")}
    assert_success(run_here(capsys, MODULE, **inputs))
    result = run_here(
        capsys, MODULE, transformers_dir=folder, output_dir=tmp_path / "from", **flags
    )
    assert_success(result)
    for name in ("vocab.txt", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"):
        assert (tmp_path / "from" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    told = json.loads((tmp_path / "from" / "conversion.json").read_text())
    assert told["gelu"] == "erf" and told["do_lower_case"] is False

    bare = save_odd_model(tmp_path / "bare", "BertForMaskedLM")
    flags["output_dir"] = tmp_path / "bare_out"
    result = run_here(capsys, MODULE, transformers_dir=bare, **flags)
    assert_one_line_error(result, 1, "no pooler", "--init_missing_pooler")


def test_mistakes_are_one_line(inputs, text, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text(NAME)
    both = {"transformers_dir": tmp_path / "full"}
    alone = {"init_checkpoint": None, "bert_config_file": None, "vocab_file": None}
    for changes, status, fragments in (
        ({"output_dir": None}, 2, ["--output_dir is missing"]),
        ({"input_file": None}, 2, ["--input_file is missing"]),
        ({"vocab_file": None}, 2, ["--init_checkpoint, --bert_config_file and --vocab_file"]),
        (both, 2, ["--transformers_dir and --init_checkpoint"]),
        ({**both, **alone}, 1, ["--transformers_dir", "holds no config.json"]),
        ({"num_new_entries": 0}, 2, ["num_new_entries"]),
        ({"min_documents": 0}, 2, ["min_documents"]),
        ({"new_rows": "median"}, 2, ["--new_rows", "mean, random"]),
        ({"do_lower_case": True}, 1, ["vocabulary of a cased model"]),
        ({"input_file": empty}, 1, ["found no words"]),
        ({"input_file": f"{text},{text}"}, 1, ["named twice"]),
        ({"vocab_file": golden("vocab_uncased.txt")}, 1, ["vocab_uncased.txt"]),
        ({"init_checkpoint": tmp_path}, 1, [str(tmp_path)]),
        ({"output_dir": tmp_path / "file"}, 1, ["is a file"]),
        ({"output_dir": tmp_path / "full"}, 1, ["no output of extend_vocab"]),
        ({"output_dir": golden("init")}, 2, ["--output_dir is the folder of the model"]),
    ):
        result = run_here(capsys, MODULE, **{**inputs, **changes})
        assert_one_line_error(result, status, *fragments)
        assert NAME not in result.stdout + result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@needs_transformers
def test_everything_downstream_takes_the_result(inputs, text, tmp_path, capsys):
    """Examples, training, conversion with its check in transformers, audit."""
    assert_success(run_here(capsys, MODULE, **inputs))
    out = tmp_path / "out"
    given = {"vocab_file": out / "vocab.txt", "do_lower_case": False}
    lengths = {"max_seq_length": 32, "max_predictions_per_seq": 5}
    examples = tmp_path / "examples.tfrecord"
    assert_success(
        run_here(
            capsys, "bert_clinical.create_pretraining_data", input_file=text, output_file=examples,
            dupe_factor=1, **given, **lengths,
        )
    )  # fmt: skip
    config = {"bert_config_file": out / "bert_config.json"}
    result = run_here(
        capsys, "bert_clinical.run_pretraining", init_checkpoint=out, input_file=examples,
        output_dir=tmp_path / "model", do_train=True, train_batch_size=4, num_train_steps=2,
        num_warmup_steps=1, **config, **lengths,
    )  # fmt: skip
    assert_success(result)
    # The old config does not pass for the new one.
    result = run_here(
        capsys, "bert_clinical.run_pretraining", init_checkpoint=out, input_file=examples,
        bert_config_file=golden("model/bert_config.json"), output_dir=tmp_path / "other",
        do_train=True, train_batch_size=4, num_train_steps=2, num_warmup_steps=1, **lengths,
    )  # fmt: skip
    assert_one_line_error(result, 1, "vocabulary of 1,005 entries", "is 1,000")
    trained = {"init_checkpoint": tmp_path / "model", **config, **given}
    folder = tmp_path / "transformers"
    result = run_here(
        capsys, "bert_clinical.convert_to_transformers", output_dir=folder, verify=True, **trained
    )
    assert_success(result)
    parent = json.loads((tmp_path / "model" / "pretraining_run.json").read_text())["parent"]
    assert parent["extension"]["new_entries"] == 5
    assert parent["parent"]["checkpoint"] == "bert_model.ckpt"
    card = (folder / "README.md").read_text()
    assert "| Entries of its own | 5, chosen on " in card
    # So it is told of a model that nothing has trained since.
    result = run_here(
        capsys, "bert_clinical.convert_to_transformers", output_dir=tmp_path / "untrained",
        verify=False, **{**trained, "init_checkpoint": out},
    )  # fmt: skip
    assert_success(result)
    card = (tmp_path / "untrained" / "README.md").read_text()
    assert "| Entries of its own | 5, chosen on " in card
    converted = NamedModel(model_dir=str(folder)).load()
    assert converted.config.vocab_size == len(converted.tokens) == 1005
    assert converted.tokenizer().tokenize("cardiomyopathy") == ["cardiomyopathy"]
    others = tmp_path / "others.txt"
    others.write_text("\n\n".join(reversed(text.read_text().strip().split("\n\n"))) + "\n")
    result = run_here(
        capsys, "bert_clinical.audit_memorization", reference_dir=out, member_file=text,
        non_member_file=others, max_notes=1000, max_seq_length=32, output_dir=tmp_path / "audit",
        **trained,
    )  # fmt: skip
    assert_success(result)
    membership = json.loads((tmp_path / "audit" / "audit.json").read_text())["membership"]
    assert membership["auc"] == pytest.approx(0.5, abs=0.05)
