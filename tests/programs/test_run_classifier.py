"""run_classifier: learns, measures, writes what transformers loads; a table of mistakes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.tasks import folder as task_folder
from tests.fine_tuning_data import (
    PLANTED,
    entailment_rows,
    from_checkpoint,
    results_of,
    write_mednli,
)
from tests.golden_data import golden
from tests.running import assert_success, exit_status_here, run_program
from tests.theirs import needs_transformers, theirs

SETTINGS = {
    "task_name": "MedNLI", "max_seq_length": 48, "learning_rate": 1e-3, "train_batch_size": 8,
    "num_train_epochs": 5, "warmup_proportion": 0.1,
}  # fmt: skip


run = functools.partial(exit_status_here, "bert_clinical.run_classifier")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mednli")
    write_mednli(folder)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "out"
    status = run(
        **from_checkpoint(), **SETTINGS, data_dir=data, output_dir=folder,
        do_train=True, do_eval=True, do_predict=True,
    )  # fmt: skip
    assert status == 0
    return folder


def test_learns_the_task(trained: Path) -> None:
    results = results_of(trained)
    assert results["eval_accuracy"] >= 0.95
    assert results["test_accuracy"] >= 0.95
    assert results["labels"] == ["contradiction", "entailment", "neutral"]
    assert len(results["epochs"]) == 5
    assert results["epochs"][-1]["global_step"] == 240 // 8 * 5
    best = results["epochs"][results["best_epoch"] - 1]
    assert best["eval_accuracy"] == max(e["eval_accuracy"] for e in results["epochs"])
    assert (best["eval_accuracy"], best["eval_loss"], best["global_step"]) == (
        results["eval_accuracy"], results["eval_loss"], results["global_step"],
    )  # fmt: skip
    supports = {name: entry["support"] for name, entry in results["dev"]["by_label"].items()}
    labels = [row["gold_label"] for row in entailment_rows(60, 1)]
    assert supports == {name: labels.count(name) for name in results["labels"]}


@needs_transformers
def test_the_pipeline_gives_the_same_answers(trained: Path) -> None:
    rows = entailment_rows(40, 2)
    answers = theirs("classify", trained, [(row["sentence1"], row["sentence2"]) for row in rows])
    written = np.loadtxt(trained / "test_results.tsv", delimiter="\t")
    assert written.shape == (40, 3)
    labels = results_of(trained)["labels"]
    predictions = (trained / "test_predictions.tsv").read_text().splitlines()
    assert predictions[0] == "id\tlabel"
    for row, scores, values, line in zip(rows, answers, written, predictions[1:], strict=True):
        np.testing.assert_allclose([scores[label] for label in labels], values, atol=1e-5)
        assert line == f"{row['pairID']}\t{labels[int(values.argmax())]}"


def test_a_trained_model_is_measured_again_in_its_folder(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    before = results_of(trained)
    flags = {**SETTINGS, "data_dir": data, "do_eval": True, "do_predict": True}
    assert run(**flags, output_dir=trained, eval_batch_size=7) == 0
    after = results_of(trained)
    assert after["epochs"] == before["epochs"]
    assert after["eval_accuracy"] == before["eval_accuracy"]
    assert after["eval_loss"] == pytest.approx(before["eval_loss"], rel=1e-4)
    record = json.loads((trained / "conversion.json").read_text())
    present = {path.name for path in trained.iterdir()}
    assert present == {*record["files"], "conversion.json"}
    # A later run of the program may still replace the folder.
    task_folder.require_output(trained, "run_classifier", model_dir=None)
    assert run(**flags, output_dir=tmp_path / "out", transformers_dir=trained) == 0
    assert results_of(tmp_path / "out")["eval_accuracy"] == before["eval_accuracy"]
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_single_sentences_of_a_tsv_from_a_transformers_folder(
    trained: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    text = "".join(f"{PLANTED} {word} .\t{word == 'fever'}\n" for word in ("fever", "pain") * 12)
    (data / "train.tsv").write_text("sentence1\tlabel\n" + text)
    (data / "dev.tsv").write_text("sentence1\tlabel\n" + text)
    (data / "test.tsv").write_text(f"sentence1\n{PLANTED} fever\n")
    result = run_program(
        "bert_clinical.run_classifier", transformers_dir=trained, data_dir=data, task_name="tsv",
        output_dir=tmp_path / "out", do_train=True, do_eval=True, do_predict=True,
        max_seq_length=16, train_batch_size=4, num_train_epochs=1,
    )  # fmt: skip
    assert_success(result)
    assert PLANTED not in result.stdout + result.stderr
    assert result.stderr == ""
    assert "Results on the dev data:" in result.stdout
    assert "test data:" not in result.stdout
    results = results_of(tmp_path / "out")
    assert results["labels"] == ["False", "True"]
    assert "test_accuracy" not in results
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["id2label"] == {"0": "False", "1": "True"}
    assert settings["hidden_act"] == "gelu_new"
    for path in (tmp_path / "out").glob("*.*"):
        if path.suffix in (".json", ".tsv"):
            assert PLANTED not in path.read_text()
    assert len((tmp_path / "out" / "test_predictions.tsv").read_text().splitlines()) == 2


def test_a_run_that_fails_late_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr(task_folder, "write_results", no_space)
    write_mednli(tmp_path / "data", train=8, dev=2, test=2)
    status = run(
        **from_checkpoint(), **{**SETTINGS, "num_train_epochs": 1}, data_dir=tmp_path / "data",
        output_dir=tmp_path / "out", do_train=True,
    )  # fmt: skip
    assert status == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def remove(name: str):
    return lambda flags: flags.pop(name)


def put(**changes: Any):
    return lambda flags: flags.update(changes)


def spoil(name: str, text: str):
    def change(flags: dict[str, Any]) -> None:
        (Path(flags["data_dir"]) / name).write_text(text)

    return change


TRAIN = "mli_train_v1.jsonl"
ROW = {"sentence1": PLANTED, "sentence2": "b", "gold_label": PLANTED}


@pytest.mark.parametrize(
    ("change", "status", "fragment"),
    [
        (put(do_train=False), 2, "none of --do_train, --do_eval and --do_predict"),
        (put(task_name="cola"), 2, "expected one of mednli, tsv"),
        (put(use_tpu=True), 2, "TPUs are not supported"),
        (put(master="grpc://x"), 2, "TPUs are not supported"),
        (put(learning_rate=0), 2, "--learning_rate is 0.0"),
        (put(num_train_epochs=0), 2, "--num_train_epochs is 0.0"),
        (put(warmup_proportion=1.5), 2, "warmup_proportion"),
        (put(max_seq_length=2), 2, "max_seq_length"),
        (put(transformers_dir="x"), 2, "--transformers_dir and --bert_config_file"),
        (put(data_directory="x"), 2, "data_directory"),
        (remove("data_dir"), 2, "data_dir"),
        (remove("vocab_file"), 2, "--vocab_file is missing"),
        (put(data_dir="/nowhere"), 1, "is no folder"),
        (put(task_name="tsv"), 1, "named train.tsv"),
        (put(bert_config_file="/nowhere.json"), 1, "/nowhere.json"),
        (put(init_checkpoint="/nowhere/model.ckpt"), 1, "found no model.ckpt.index"),
        (put(vocab_file=golden("vocab_uncased.txt")), 1, "--do_lower_case is false"),
        (put(do_lower_case=True), 1, "--do_lower_case is true"),
        (put(max_seq_length=129), 1, "takes 128 positions at most"),
        (put(train_batch_size=1000, num_train_epochs=1), 1, "give no update"),
        (put(do_train=False, do_eval=True), 1, "holds no fine-tuned model"),
        (spoil(TRAIN, json.dumps(ROW)), 1, f"{TRAIN}, line 1: gold_label is none of"),
        (spoil(TRAIN, "\n"), 1, "holds no example"),
        (spoil("train.jsonl", "{}"), 1, f"holds {TRAIN} and train.jsonl"),
        (put(output_dir=golden("notes")), 1, "no output of run_classifier"),
    ],
)
def test_mistakes_are_one_line(
    change, status: int, fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_mednli(tmp_path / "data", train=8, dev=2, test=2)
    flags = {
        **from_checkpoint(), **SETTINGS, "data_dir": tmp_path / "data",
        "output_dir": tmp_path / "out", "do_train": True, "do_eval": False,
    }  # fmt: skip
    change(flags)
    assert run(**flags) == status
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert fragment in lines[0]
    assert "withheld" not in lines[0]
    assert PLANTED not in said.err + said.out
    assert not (tmp_path / "out").exists()


def test_a_model_for_another_task_is_refused(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for path in trained.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    settings = json.loads((copy / "config.json").read_text())
    flags = {**SETTINGS, "data_dir": data, "do_eval": True, "output_dir": tmp_path / "out"}
    for changes, fragment in (
        ({"architectures": ["BertForMaskedLM"]}, "found BertForMaskedLM, expected BertForSequ"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label does not name"),
        ({"id2label": {"0": "neutral", "1": "b"}}, "classifier.weight has shape [3, 32]"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "its label is none of the 3"),
    ):
        (copy / "config.json").write_text(json.dumps({**settings, **changes}))
        assert run(**flags, transformers_dir=copy) == 1
        assert fragment in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
