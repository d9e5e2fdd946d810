"""Fine-tuning programs that a signal stops, or a kill ends, go on to the same files."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fine_tuning_data import from_checkpoint, results_of, write_conll, write_mednli
from tests.running import HANG_SECONDS, assert_success, run_program, start_program, wait_until

pytestmark = pytest.mark.slow

SETTINGS = {
    "max_seq_length": 48, "learning_rate": 1e-3, "train_batch_size": 8, "num_train_epochs": 3,
    "save_checkpoints_steps": 20,
}  # fmt: skip
FLAGS = ["--do_train", "--do_eval", "--do_predict"]
MADE = {"run_classifier": (write_mednli, "mednli"), "run_ner": (write_conll, "conll")}


def flags_of(program: str, folder: Path, output: str) -> dict[str, Any]:
    write, task = MADE[program]
    data = folder / "data"
    if not data.exists():
        write(data)
    return {
        **from_checkpoint(), **SETTINGS, "task_name": task, "data_dir": data,
        "output_dir": folder / output,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("program", "number"),
    [("run_classifier", signal.SIGTERM), ("run_ner", signal.SIGUSR1), ("run_ner", signal.SIGKILL)],
)
def test_the_next_start_goes_on(program: str, number: signal.Signals, tmp_path: Path) -> None:
    module = f"bert_clinical.{program}"
    assert_success(run_program(module, *FLAGS, **flags_of(program, tmp_path, "whole")))
    flags = flags_of(program, tmp_path, "out")
    process = start_program(module, *FLAGS, **flags)
    kept = tmp_path / "out.training"
    wait_until(lambda: (kept / "progress.json").is_file(), process)
    process.send_signal(number)
    out, err = process.communicate(HANG_SECONDS)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), err
    assert not (tmp_path / "out").exists()
    if number != signal.SIGKILL:
        assert "the same command goes on" in out
        assert not err
    result = run_program(module, *FLAGS, **flags)
    assert_success(result)
    assert "Going on after update" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out", "whole"]
    whole, again = tmp_path / "whole", tmp_path / "out"
    assert [p.name for p in sorted(again.iterdir())] == [p.name for p in sorted(whole.iterdir())]
    for path in whole.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert len(results_of(again)["epochs"]) == 3
