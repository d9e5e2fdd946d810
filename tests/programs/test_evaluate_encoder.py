"""The script that holds a model against the one it started from, on tasks of entities."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fine_tuning_data import results_of, write_conll
from tests.golden_data import golden
from tests.programs.test_fine_tuning_grid import run_script, write_run
from tests.running import ROOT

SCRIPT = "evaluate_encoder.sh"

# Stands in for Python: run_ner writes a result, or ends with status 7 where there is a file `stop`.
PYTHON = """#!{python}
import json, os, pathlib, sys
module, arguments = sys.argv[2], sys.argv[3:]
if module == "bert_clinical.compare_runs":
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
flags = dict(argument[2:].partition("=")[::2] for argument in arguments)
folder = pathlib.Path(flags["output_dir"])
if (folder / "eval_results.json").exists() and "keep_finished" in flags:
    sys.exit()
with open("runs.jsonl", "a") as runs:
    runs.write(json.dumps({{"module": module, **flags}}) + "\\n")
if pathlib.Path("stop").exists() and "task b" in str(folder):
    sys.exit(7)
folder.mkdir(parents=True)
score = int(flags["random_seed"]) / 10 + ("model" in folder.parent.name) / 20
settings = {{
    "num_train_epochs": float(flags["num_train_epochs"]), "random_seed": flags["random_seed"],
    "learning_rate": float(flags["learning_rate"]), "train_batch_size": 32,
    "model": flags.get("transformers_dir") or flags["init_checkpoint"], "gelu": flags.get("gelu"),
}}
results = {{"hyperparameters": settings, "eval_f": score, "test_f": score / 2}}
(folder / "eval_results.json").write_text(json.dumps(results))
"""

MODELS = {"TRANSFORMERS_DIR": "clinical", "START_INIT_CHECKPOINT": "biobert/model.ckpt-1",
          "START_GELU": "erf"}  # fmt: skip
FOLDERS = {"DATA_DIR": "tasks", "OUTPUT_DIR": "out"}


def evaluate(
    folder: Path, *args: str, **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """Runs the script with a stand-in for Python; returns what it said, and the flags of runs."""
    python = folder / "python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    runs = folder / "runs.jsonl"
    runs.unlink(missing_ok=True)
    result = run_script(SCRIPT, *args, folder=folder, PYTHON=str(python),
                        PYTHONPATH=str(ROOT), **variables)  # fmt: skip
    lines = runs.read_text().splitlines() if runs.exists() else []
    return result, [json.loads(line) for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for task in ("task a", "task b"):
        (tmp_path / "tasks" / task).mkdir(parents=True)
    (tmp_path / "tasks" / "README").touch()
    return tmp_path


def test_every_task_is_learned_from_both_models_with_three_seeds(folder: Path) -> None:
    result, runs = evaluate(folder, "--nocheck_case", **MODELS, **FOLDERS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {run["module"] for run in runs} == {"bert_clinical.run_ner"}
    seen = [
        (run["random_seed"], run["data_dir"], run.get("transformers_dir", run.get("gelu")))
        for run in runs
    ]
    assert seen == [
        (str(seed), f"tasks/task {task}", model)
        for seed in (1, 2, 3) for task in "ab" for model in ("clinical", "erf")
    ]  # fmt: skip
    for run in runs:
        assert {
            "do_train", "do_eval", "do_predict", "keep_finished", "nocheck_case",
        } <= run.keys()  # fmt: skip
        # The programs' own default, which does better in short runs than the paper's.
        assert not any("adam" in flag for flag in run)
        if "transformers_dir" not in run:
            assert run["init_checkpoint"] == "biobert/model.ckpt-1"
            assert run["bert_config_file"] == "biobert/bert_config.json"
            assert run["vocab_file"] == "biobert/vocab.txt"
            assert run["do_lower_case"] == "False"


def test_the_table_has_both_beside_each_other(folder: Path) -> None:
    result, _ = evaluate(folder, **MODELS, **FOLDERS)
    table = pd.read_csv(folder / "out" / "results.csv")
    assert table["task"].tolist() == ["task a", "task b"]
    for column, expected in {
        "model_runs": 3, "model_dev": 0.25, "model_dev_sd": 0.1, "model_test": 0.125,
        "start_runs": 3, "start_dev": 0.2, "start_test": 0.1, "start_test_sd": 0.05,
        "model_difference": 0.025,
    }.items():  # fmt: skip
        assert table[column].tolist() == pytest.approx([expected] * 2), column
    markdown = (folder / "out" / "results.md").read_text()
    assert result.stdout.endswith(markdown)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]
    row = dict(zip(lines[0], lines[2], strict=True))
    assert lines[1] == ["---"] * len(row) and len(lines) == 4
    assert row == {
        "task": "task a", "num_train_epochs": "4", "learning_rate": "5e-05",
        "train_batch_size": "32", "model_runs": "3", "model_dev": "0.2500 ± 0.1000",
        "model_test": "0.1250 ± 0.0500", "start_runs": "3", "start_dev": "0.2000 ± 0.1000",
        "start_test": "0.1000 ± 0.0500", "model_difference": "0.0250",
    }  # fmt: skip


def test_it_goes_on_where_it_was_stopped(folder: Path) -> None:
    (folder / "stop").touch()
    result, first = evaluate(folder, **MODELS, **FOLDERS)
    assert result.returncode == 7
    assert len(first) == 3
    assert not (folder / "out" / "results.csv").exists()
    (folder / "stop").unlink()
    result, second = evaluate(folder, **MODELS, **FOLDERS)
    assert result.returncode == 0
    assert len(second) == 10
    assert second[0] == first[2]
    result, third = evaluate(folder, **MODELS, **FOLDERS, RANDOM_SEED="1 4", NUM_TRAIN_EPOCHS="4")
    assert [run["random_seed"] for run in third] == ["4"] * 4
    assert pd.read_csv(folder / "out" / "results.csv")["model_runs"].tolist() == [4, 4]
    # Other settings are other rows, and no run counts for both.
    result, fourth = evaluate(folder, **MODELS, **FOLDERS, RANDOM_SEED="1", LEARNING_RATE="2e-5")
    assert len(fourth) == 4
    table = pd.read_csv(folder / "out" / "results.csv")
    assert table["model_runs"].tolist() == [1, 4, 1, 4]


def test_runs_of_two_models_are_not_averaged(folder: Path) -> None:
    for task in ("a", "b"):
        for seed in (1, 2):
            write_run(folder / "out" / task / "model" / f"{seed}", dev=0.5, test=0.5, metric="f",
                      random_seed=seed, model=f"model {seed if task == 'b' else 1}")  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-m", "bert_clinical.compare_runs", f"--runs_dir={folder / 'out'}",
         "--metric=f", "--by_task"], capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "the runs of model began with 2 models, model 1 and model 2" in result.stderr


def test_a_test_part_without_labels_is_named(folder: Path) -> None:
    for task, test in (("a", 0.5), ("b", None)):
        write_run(folder / "out" / task / "model" / "1", dev=0.5, test=test, metric="f", model="m")
    result = subprocess.run(
        [sys.executable, "-m", "bert_clinical.compare_runs", f"--runs_dir={folder / 'out'}",
         "--metric=f", "--by_task"], capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1
    assert "1 of 2 tasks have runs without figures of test data, b first" in result.stderr


@pytest.mark.parametrize(
    ("variables", "fragment"),
    [
        ({"START_INIT_CHECKPOINT": "b", **FOLDERS}, "INIT_CHECKPOINT is not set; expected a check"),
        ({"TRANSFORMERS_DIR": "t", **FOLDERS}, "START_INIT_CHECKPOINT is not set; expected a ch"),
        ({**MODELS, "OUTPUT_DIR": "out"}, "DATA_DIR is not set"),
        ({**MODELS, "DATA_DIR": "tasks"}, "OUTPUT_DIR is not set"),
        ({**MODELS, **FOLDERS, "DATA_DIR": "tasks/task a"}, "tasks/task a holds no folder"),
    ],
)
def test_what_is_missing_is_named(folder: Path, variables: dict[str, str], fragment: str) -> None:
    result, runs = evaluate(folder, **variables)
    assert result.returncode in (1, 2) and not runs
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr


@pytest.mark.slow
def test_two_models_on_a_made_up_task(tmp_path: Path) -> None:
    """The whole of it, from a checkpoint and from a folder of transformers' form."""
    write_conll(tmp_path / "tasks" / "made up", train=16, dev=6, test=6)
    shutil.copytree(golden("init"), tmp_path / "start")
    shutil.copy(golden("model/bert_config.json"), tmp_path / "start")
    shutil.copy(golden("vocab_cased.txt"), tmp_path / "start" / "vocab.txt")
    subprocess.run(
        [sys.executable, "-m", "bert_clinical.convert_to_transformers", "--noverify",
         f"--init_checkpoint={golden('init')}", f"--vocab_file={golden('vocab_cased.txt')}",
         f"--bert_config_file={golden('model/bert_config.json')}", "--do_lower_case=False",
         f"--output_dir={tmp_path / 'model'}"], check=True, capture_output=True,
    )  # fmt: skip
    result = run_script(
        SCRIPT, folder=tmp_path, TRANSFORMERS_DIR="model", START_INIT_CHECKPOINT="start",
        DATA_DIR="tasks", OUTPUT_DIR="tasks/out", NUM_TRAIN_EPOCHS="1", TRAIN_BATCH_SIZE="8",
        MAX_SEQ_LENGTH="32", RANDOM_SEED="5",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    runs = tmp_path / "tasks" / "out" / "made up"
    name = "epochs_1-rate_5e-5-batch_8-seed_5"
    found = [results_of(runs / encoder / name) for encoder in ("model", "start")]
    # They are the same weights.
    assert found[0]["test_loss"] == pytest.approx(found[1]["test_loss"], rel=1e-4)
    assert found[0]["hyperparameters"]["adam_bias_correction"] is True
    table = pd.read_csv(tmp_path / "tasks" / "out" / "results.csv")
    assert table["task"].tolist() == ["made up"]
    assert table["start_test"].tolist() == [found[1]["test_f"]]
