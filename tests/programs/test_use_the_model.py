"""The notebook, its cells run one after the other in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bert_clinical.conversion.convert import convert_to_transformers
from bert_clinical.nn.config import BertConfig
from bert_clinical.weights import checkpoint
from bert_clinical.wordpieces.vocabulary import read_vocabulary
from tests.golden_data import golden
from tests.running import HANG_SECONDS

NOTEBOOK = Path(__file__).parents[2] / "run_scripts" / "use_the_model.ipynb"


@pytest.fixture(scope="module")
def notebook() -> dict:
    return json.loads(NOTEBOOK.read_text())


def source(notebook: dict) -> str:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def run(code: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True,
        timeout=HANG_SECONDS,
        env={"MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1", "HOME": str(folder), **variables},
    )  # fmt: skip


def test_is_saved_without_outputs(notebook: dict) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("code", "markdown")
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_runs_on_a_converted_model(notebook: dict, tmp_path: Path) -> None:
    config = BertConfig.from_json_file(golden("model/bert_config.json"))
    convert_to_transformers(
        prefix=checkpoint.resolve_checkpoint(golden("init")), config=config,
        tokens=read_vocabulary(golden("vocab_cased.txt"), config.vocab_size),
        do_lower_case=False, gelu="tanh", output_dir=tmp_path / "model",
    )  # fmt: skip
    code = source(notebook).replace("plt.show()", "figure.savefig('plot.png')")
    result = run(code, tmp_path, MODEL_DIR=str(tmp_path / "model"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1,000 WordPieces" in result.stdout
    assert "GELU: gelu_new" in result.stdout
    assert result.stdout.count("%") == 15
    assert result.stdout.count(" -> ") == 24
    assert (tmp_path / "plot.png").read_bytes()[1:4] == b"PNG"


def test_says_which_model_is_missing(notebook: dict, tmp_path: Path) -> None:
    result = run(source(notebook), tmp_path, MODEL_DIR="nowhere")
    assert result.returncode == 1
    assert "nowhere holds no model: run run_scripts/quickstart.sh" in result.stderr
