"""The scripts that run the paper's grid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fine_tuning_data import write_mednli
from tests.golden_data import golden

SCRIPTS = Path(__file__).parents[2] / "run_scripts"


def run_script(name: str, *args: str, folder: Path, **variables: str):
    return subprocess.run(
        [str(SCRIPTS / name), *args], cwd=folder, env={**os.environ, "PYTHON": sys.executable,
        **variables}, capture_output=True, text=True, timeout=300,
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
        "MAX_SEQ_LENGTH": "40",
    }  # fmt: skip
    runs = [f"runs/epochs_1-rate_{rate}-batch_8" for rate in ("2e-5", "5e-5")]
    (tmp_path / runs[0]).mkdir(parents=True)
    (tmp_path / runs[0] / "eval_results.json").write_text(
        '{"eval_accuracy": -0.5, "test_accuracy": 0.9}'
    )
    result = run_script("run_classifier.sh", "--random_seed=7", folder=tmp_path, **variables)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"{runs[0]} is complete.", f"== {runs[1]}"]
    results = json.loads((tmp_path / runs[1] / "eval_results.json").read_text())
    assert lines[-3].split()[:3] == ["dev", "test", "by"]
    scores = (f"{results[f'{part}_accuracy']:.4f}" for part in ("eval", "test"))
    assert lines[-2].split() == [*scores, Path(runs[1]).name]
    assert lines[-1].split() == ["-0.5000", "0.9000", Path(runs[0]).name]


@pytest.mark.parametrize("script", ["run_classifier.sh", "run_ner.sh"])
def test_a_missing_variable_is_named(script: str, tmp_path: Path) -> None:
    result = run_script(script, folder=tmp_path, DATA_DIR="data", OUTPUT_DIR="runs")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "INIT_CHECKPOINT is not set" in result.stderr
