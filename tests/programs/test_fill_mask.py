"""`fill_mask` against transformers' own pipeline, and its mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conversion.test_convert import save_odd_model, to_transformers
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here, run_program
from tests.theirs import needs_transformers, theirs

pytestmark = needs_transformers

MODULE = "bert_clinical.fill_mask"
TEXT = "The patient was [MASK] to the ICU."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return to_transformers(golden("init"), tmp_path_factory.mktemp("model") / "to", gelu="erf")


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "biobert"
    shutil.copytree(golden("init_bertadam"), folder)
    shutil.copy(golden("model/bert_config.json"), folder)
    shutil.copy(golden("vocab_cased.txt"), folder / "vocab.txt")
    return folder


def lines_of_pipeline(folder: Path, text: str, top_k: int) -> list[str]:
    return [f"{score:.4f}  {piece}" for score, piece in theirs("fill_mask", folder, text, top_k)]


def test_pieces_and_probabilities_are_those_of_transformers(folder):
    result = run_program(MODULE, model_dir=folder, text=TEXT, top_k=7)
    assert_success(result)
    assert not result.stderr
    assert result.stdout.splitlines() == lines_of_pipeline(folder, TEXT, 7)


def test_a_checkpoint_says_the_same(folder, checkpoint_folder, capsys):
    flags = {"do_lower_case": False, "gelu": "erf", "text": TEXT}
    result = run_here(capsys, MODULE, model_dir=checkpoint_folder, **flags)
    assert_success(result)
    assert result.stdout.splitlines() == lines_of_pipeline(folder, TEXT, 5)


def test_several_masks_are_numbered(folder, capsys):
    text = "[MASK] was [MASK]."
    result = run_here(capsys, MODULE, model_dir=folder, text=text, top_k=2)
    assert_success(result)
    lines = result.stdout.splitlines()
    assert (lines[0], lines[3], len(lines)) == ("[MASK] 1", "[MASK] 2", 6)


def test_mistakes_are_one_line(folder, checkpoint_folder, tmp_path, capsys):
    bare = save_odd_model(tmp_path / "bare", "BertModel")
    planted = "Quixzandorph"
    for flags, status, fragments in (
        ({"model_dir": folder}, 2, ["text"]),
        ({"text": TEXT}, 2, ["model_dir"]),
        ({"model_dir": folder, "text": planted}, 2, ["holds no [MASK]"]),
        ({"model_dir": folder, "text": TEXT, "top_k": 0}, 2, ["top_k"]),
        ({"model_dir": folder, "text": TEXT, "gelu": "erf"}, 2, ["config.json"]),
        ({"model_dir": checkpoint_folder, "text": TEXT}, 2, ["--do_lower_case is needed"]),
        ({"model_dir": tmp_path, "text": TEXT, "do_lower_case": False}, 1, ["bert_config.json"]),
        ({"model_dir": bare, "text": TEXT}, 1, ["no masked LM head"]),
        ({"model_dir": folder, "text": "[MASK] " + f"{planted} " * 40}, 1, ["the model takes 128"]),
    ):
        result = run_here(capsys, MODULE, **flags)
        assert_one_line_error(result, status, *fragments)
        assert planted not in result.stdout + result.stderr
