"""run_ner: learns, maps back to words, writes what transformers loads; a table of mistakes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from bert_clinical.tasks import entities as ner_data
from bert_clinical.tasks.scores import entity_scores
from tests.fine_tuning_data import PLANTED, from_checkpoint, results_of, write_conll
from tests.golden_data import golden
from tests.running import assert_success, exit_status_here, run_program
from tests.theirs import needs_transformers, theirs

SETTINGS = {
    "task_name": "i2b2_2010", "max_seq_length": 48, "learning_rate": 3e-3, "train_batch_size": 8,
    "num_train_epochs": 3,
}  # fmt: skip
LABELS = ["O", "B-problem", "I-problem", "B-treatment", "I-treatment"]


run = functools.partial(exit_status_here, "bert_clinical.run_ner")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conll")
    write_conll(folder)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ner") / "out"
    assert run(**from_checkpoint(), **SETTINGS, data_dir=data, output_dir=folder, do_eval=True) == 0
    return folder


def true_labels(path: Path) -> list[str]:
    return [line.rpartition("\t")[2] for line in path.read_text().splitlines()]


def test_learns_the_task(trained: Path, data: Path) -> None:
    results = results_of(trained)
    assert results["labels"] == LABELS
    for name in ("eval_f", "eval_precision", "eval_recall", "test_f"):
        assert results[name] >= 0.95
    best = results["epochs"][results["best_epoch"] - 1]
    assert best["eval_f"] == max(epoch["eval_f"] for epoch in results["epochs"])
    assert best["eval_f"] == results["eval_f"]
    assert results["dev"]["words"] == sum(1 for label in true_labels(data / "dev.tsv") if label)


@pytest.mark.parametrize("part", ["dev", "test"])
def test_predictions_are_aligned_to_the_input(trained: Path, data: Path, part: str) -> None:
    predicted = (trained / f"{part}_predictions.txt").read_text().splitlines()
    true = true_labels(data / f"{part}.tsv")
    assert [bool(label) for label in predicted] == [bool(label) for label in true]
    overall, _ = entity_scores(*(
        [sentence.split() for sentence in "\n".join(labels).split("\n\n")]
        for labels in (true, predicted)
    ))  # fmt: skip
    prefix = "eval" if part == "dev" else part
    assert overall.f1 == pytest.approx(results_of(trained)[f"{prefix}_f"])


@needs_transformers
def test_the_pipeline_gives_the_same_answers(trained: Path, data: Path) -> None:
    sentences = ner_data.read_sentences(data / "test.tsv", labelled=True)
    predicted = (trained / "test_predictions.txt").read_text().splitlines()
    assert theirs("labels", trained) == dict(enumerate(LABELS))
    texts = [" ".join(sentence.words) for sentence in sentences]
    lengths = map(len, theirs("tokenize", trained, texts)["input_ids"])
    answers = theirs("find_entities", trained, texts)
    seen = 0
    for sentence, length, found in zip(sentences, lengths, answers, strict=True):
        if length > SETTINGS["max_seq_length"]:
            continue
        seen += 1
        labels = [predicted[line - 1] for line in sentence.lines]
        expected, words = [], []
        for word, label in zip([*sentence.words, ""], [*labels, "O"], strict=True):
            if words and not label.startswith("I-"):
                expected[-1] = (expected[-1], " ".join(words))
                words = []
            if label.startswith("B-"):
                expected.append(label[2:])
            if label != "O":
                words.append(word)
        assert found == expected
    assert seen >= 20


def test_a_trained_model_labels_words_alone(trained: Path, data: Path, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    lines = (data / "test.tsv").read_text().splitlines()
    (words / "test.txt").write_text("\n".join(line.partition("\t")[0] for line in lines) + "\n")
    result = run_program(
        "bert_clinical.run_ner", "--nodo_train", transformers_dir=trained, data_dir=words,
        task_name="conll", output_dir=tmp_path / "out", max_seq_length=48,
    )  # fmt: skip
    assert_success(result)
    assert result.stderr == ""
    assert PLANTED not in result.stdout
    written = (tmp_path / "out" / "test_predictions.txt").read_text()
    assert written == (trained / "test_predictions.txt").read_text()
    assert "test_f" not in results_of(tmp_path / "out")


def test_as_published(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    settings = {**SETTINGS, "max_seq_length": 32, "num_train_epochs": 2, "learning_rate": 1e-3}
    out = tmp_path / "out"
    assert run(
        **from_checkpoint(), **settings, data_dir=data, output_dir=out, word_labels="published",
        do_eval=True, do_predict=False,
    ) == 0  # fmt: skip
    results = results_of(out)
    assert results["labels"] == ["[PAD]", *LABELS, "X", "[CLS]", "[SEP]"]
    assert "their ends are cut off, as in the original" in capsys.readouterr().out
    assert results["eval_f"] > 0.5
    predicted = set((out / "dev_predictions.txt").read_text().split())
    assert predicted <= set(LABELS)
    # A model with these classes is measured as it was trained.
    assert run(**settings, data_dir=data, output_dir=out, do_train=False, do_eval=True) == 0
    assert results_of(out)["eval_f"] == results["eval_f"]


def test_labels_that_are_not_learned_are_counted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "test.tsv").write_text(f"{PLANTED} B-drug\npain B-problem\n")
    status = run(
        transformers_dir=trained, data_dir=tmp_path, task_name="conll", do_train=False,
        output_dir=tmp_path / "out", max_seq_length=32,
    )  # fmt: skip
    assert status == 0
    said = capsys.readouterr().out
    assert "1 words carry labels that the model does not learn" in said
    assert PLANTED not in said
    by_type = results_of(tmp_path / "out")["test"]["by_type"]
    assert by_type["drug"]["support"] == 1
    assert by_type["drug"]["recall"] == 0


def test_a_finished_run_is_kept_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_conll(tmp_path / "data", train=8, dev=2, test=2)
    flags = {
        **from_checkpoint(), **SETTINGS, "num_train_epochs": 1, "data_dir": tmp_path / "data",
        "output_dir": tmp_path / "out", "do_eval": True, "keep_finished": True,
    }  # fmt: skip
    assert run(**flags) == 0
    first = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    left = tmp_path / "out.training"
    left.mkdir()
    (left / "model.ckpt-1.index").touch()
    capsys.readouterr()
    # Sizes of batches that are only measured decide nothing.
    assert run(**flags, eval_batch_size=3) == 0
    assert f"{tmp_path / 'out'} is complete." in capsys.readouterr().out
    assert not left.exists()
    other = tmp_path / "other"
    write_conll(other, train=8, dev=2, test=3)
    for change, name in (
        ({"learning_rate": 1e-4}, "--learning_rate"),
        ({"init_checkpoint": golden("model/trained")}, "model"),
        ({"gelu": "erf"}, "form of GELU"),
        ({"data_dir": other}, "file of test data"),
        ({"do_eval": False}, "file of dev data"),
    ):
        assert run(**{**flags, **change}) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"holds a run with another {name}; choose another folder" in said
    assert run(**{**flags, "do_train": False}) == 2
    assert "--keep_finished is about a training" in capsys.readouterr().err
    # Figures of other data in its folder are no longer the run's.
    measured = {"data_dir": other, "task_name": "conll", "max_seq_length": 48}
    assert run(**measured, output_dir=tmp_path / "out", do_train=False) == 0
    assert run(**flags) == 1
    assert "holds results that do not say of which run" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == first


def put(**changes: Any):
    return lambda flags: flags.update(changes)


def spoil(name: str, text: str):
    def change(flags: dict[str, Any]) -> None:
        (Path(flags["data_dir"]) / name).write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "status", "fragment"),
    [
        (put(cross_val_sz=10), 2, "--cross_val_sz: the files' own split"),
        (put(task_name="mednli"), 2, "expected one of conll"),
        (put(num_tpu_cores=8), 2, "TPUs are not supported"),
        (put(do_train=False, do_predict=False), 2, "none of --do_train"),
        (put(word_labels="last"), 2, "word_labels"),
        (put(gelu="relu"), 2, "gelu"),
        (put(random_seed=-1), 2, "random_seed"),
        (spoil("train.tsv", f"a O\n{PLANTED}\n"), 1, "train.tsv, line 2: its last column"),
        (spoil("train.tsv", f"{PLANTED} O\n"), 1, "all words are labelled O"),
        (spoil("train.bio", "a O\n"), 1, "holds train.tsv and train.bio"),
        (spoil("test.tsv", ""), 1, "test.tsv: holds no sentence"),
        (put(do_train=False, transformers_dir="/nowhere"), 2, "--transformers_dir and"),
    ],
)
def test_mistakes_are_one_line(
    change, status: int, fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_conll(tmp_path / "data", train=8, dev=2, test=2)
    flags = {
        **from_checkpoint(), **SETTINGS, "data_dir": tmp_path / "data",
        "output_dir": tmp_path / "out",
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
