"""The scripts that run the paper's grid."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bert_clinical.tasks.tables import compare, read_runs
from tests.fine_tuning_data import write_mednli
from tests.golden_data import golden
from tests.running import HANG_SECONDS, assert_one_line_error, run_here, warm_python

SCRIPTS = Path(__file__).parents[2] / "run_scripts"


def run_script(name: str, *args: str, folder: Path, **variables: str):
    return subprocess.run(
        [str(SCRIPTS / name), *args], cwd=folder, env={**os.environ, "PYTHON": str(warm_python()),
        **variables}, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip


def test_the_grid_is_the_papers() -> None:
    text = (SCRIPTS / "fine_tuning_grid.sh").read_text()
    for expected in (
        "${NUM_TRAIN_EPOCHS:-2 3 4 5}", "${LEARNING_RATE:-2e-5 3e-5 5e-5}",
        "${TRAIN_BATCH_SIZE:-16 32}", "${MAX_SEQ_LENGTH:-150}",
    ):  # fmt: skip
        assert expected in text


def test_each_point_is_run_once_and_the_best_comes_first(tmp_path: Path) -> None:
    write_mednli(tmp_path / "data", train=24, dev=6, test=6)
    shutil.copytree(golden("init"), tmp_path / "model")
    shutil.copy(golden("model/bert_config.json"), tmp_path / "model")
    shutil.copy(golden("vocab_cased.txt"), tmp_path / "model" / "vocab.txt")
    variables = {
        "INIT_CHECKPOINT": "model", "GELU": "erf", "DATA_DIR": "data", "OUTPUT_DIR": "runs",
        "NUM_TRAIN_EPOCHS": "1", "LEARNING_RATE": "2e-5 5e-5", "TRAIN_BATCH_SIZE": "8",
        "MAX_SEQ_LENGTH": "40", "RANDOM_SEED": "7",
    }  # fmt: skip
    runs = [f"runs/epochs_1-rate_{rate}-batch_8-seed_7" for rate in ("2e-5", "5e-5")]
    for rates in ("2e-5", "2e-5 5e-5"):
        result = run_script(
            "run_classifier.sh", "--eval_batch_size=3", folder=tmp_path,
            **{**variables, "LEARNING_RATE": rates},
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        change_results(tmp_path / runs[0], eval_accuracy=-0.5, test_accuracy=0.9)
    lines = result.stdout.splitlines()
    assert f"{runs[0]} is complete." in lines
    assert f"{runs[1]} is complete." not in lines
    results = json.loads((tmp_path / runs[1] / "eval_results.json").read_text())
    assert results["hyperparameters"]["random_seed"] == 7
    assert results["hyperparameters"]["adam_bias_correction"] is False
    table = pd.read_csv(tmp_path / "runs" / "results.csv")
    assert table["learning_rate"].tolist() == [5e-5, 2e-5]
    assert table["dev"].tolist() == [results["eval_accuracy"], -0.5]
    assert table["test"].tolist() == [results["test_accuracy"], 0.9]
    assert lines[-1].split()[-2:] == ["-0.5", "0.9"]


def change_results(folder: Path, **changes: Any) -> None:
    """Puts other numbers into a run's results, which tell whether it was made again."""
    path = folder / "eval_results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_run(
    folder: Path, *, dev: float, test: float | None = None, metric: str = "accuracy",
    **settings: Any,
) -> None:  # fmt: skip
    """Writes the results of a run as the fine-tuning programs do."""
    settings = {"num_train_epochs": 1.0, "learning_rate": 5e-5, "train_batch_size": 16, **settings}
    results = {"hyperparameters": settings, f"eval_{metric}": dev}
    if test is not None:
        results[f"test_{metric}"] = test
    folder.mkdir(parents=True)
    (folder / "eval_results.json").write_text(json.dumps(results))


def test_seeds_are_averaged_and_settings_that_differ_are_shown(tmp_path: Path) -> None:
    for seed, dev in enumerate((0.5, 0.7, 0.6)):
        write_run(tmp_path / f"a{seed}", dev=dev, test=dev / 2, random_seed=seed, gelu="erf")
    write_run(tmp_path / "b", dev=0.61, random_seed=0, gelu="tanh")
    (tmp_path / "not done yet").mkdir()
    table = compare(read_runs(tmp_path, "accuracy"))
    assert table.columns.tolist() == [
        "num_train_epochs", "learning_rate", "train_batch_size", "gelu",
        "runs", "dev", "dev_sd", "test", "test_sd",
    ]  # fmt: skip
    assert table["gelu"].tolist() == ["tanh", "erf"]
    assert table["runs"].tolist() == [1, 3]
    assert table["dev"].tolist() == pytest.approx([0.61, 0.6])
    assert table["dev_sd"].tolist() == pytest.approx([math.nan, 0.1], nan_ok=True)
    assert table["test"].tolist() == pytest.approx([math.nan, 0.3], nan_ok=True)
    assert table["test_sd"].tolist() == pytest.approx([math.nan, 0.05], nan_ok=True)


def test_runs_that_cannot_be_compared_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def mistake(*fragments: str) -> None:
        result = run_here(capfd, "bert_clinical.compare_runs", runs_dir=tmp_path, metric="f")
        assert_one_line_error(result, 1, *fragments)

    mistake(str(tmp_path), "found no */eval_results.json")
    write_run(tmp_path / "good", dev=0.5, metric="f")
    write_run(tmp_path / "other", dev=0.5, metric="accuracy")
    mistake(str(tmp_path / "other"), "eval_f", "found the metrics accuracy")
    (tmp_path / "other" / "eval_results.json").write_text('{"test_f": 0.5}')
    mistake(str(tmp_path / "other"), "found the metrics of no dev data")


@pytest.mark.parametrize("script", ["run_classifier.sh", "run_ner.sh"])
def test_a_missing_variable_is_named(script: str, tmp_path: Path) -> None:
    result = run_script(script, folder=tmp_path, DATA_DIR="data", OUTPUT_DIR="runs")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "INIT_CHECKPOINT is not set" in result.stderr
