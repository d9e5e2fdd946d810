"""The program: mistakes, signals, kills, what it leaves, and that no token gets out."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical import run_pretraining
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import log, plan
from bert_clinical.pretraining.errors import translated_errors
from bert_clinical.pretraining.evaluation import RESULTS
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.tfrecords.schema import pretraining_features
from bert_clinical.tfrecords.sidecars import write_sidecar
from bert_clinical.weights import checkpoint
from data_prep.common import atomic_files, program
from data_prep.common.errors import UserError
from tests.golden_data import golden
from tests.pretraining.training_workers import one_layer
from tests.running import (
    HANG_SECONDS,
    ROOT,
    Process,
    arguments,
    assert_one_line_error,
    assert_success,
    finished,
    start_program,
    wait_until,
    warm_python,
)
from tests.tfrecord_files import framed
from tests.warm_programs import WarmProcess

pytestmark = pytest.mark.usefixtures("without_curves")

MODULE = "bert_clinical.run_pretraining"


TWO_LAYERS = {"bert_config_file": golden("model/bert_config.json")}
"""Of the golden checkpoints."""


def flags(output_dir: Path, **changes: Any) -> dict[str, Any]:
    return {
        "bert_config_file": one_layer(output_dir),
        "input_file": golden("cased_128.tfrecord"),
        "output_dir": output_dir,
        "do_train": True,
        "train_batch_size": 4,
        "num_train_steps": 3,
        "num_warmup_steps": 1,
        "learning_rate": 1e-3,
        **changes,
    }


def run_here(capfd: pytest.CaptureFixture[str], **values: Any) -> subprocess.CompletedProcess[str]:
    """Runs the program in this process; TensorFlow's import is what takes time."""
    given = arguments(**values)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    status = program.run_to_exit_status(
        run_pretraining.__doc__, run_pretraining.define_flags, run_pretraining.main, given
    )
    # The program's handlers write to streams that this test's end closes.
    root.handlers[:] = handlers
    root.setLevel(level)
    out, err = capfd.readouterr()
    return subprocess.CompletedProcess(given, status, out, err)


def bad_json(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    path.write_text('{"vocab_size": 10,')
    return {"bert_config_file": path}


def config_without(folder: Path, name: str) -> dict[str, Any]:
    values = json.loads(golden("model/bert_config.json").read_text())
    del values[name]
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    return {"bert_config_file": path}


def config_with(folder: Path, **changes: Any) -> dict[str, Any]:
    values = json.loads(golden("model/bert_config.json").read_text())
    path = folder / "config.json"
    path.write_text(json.dumps({**values, **changes}))
    return {"bert_config_file": path}


def truncated(folder: Path) -> dict[str, Any]:
    path = folder / "short.tfrecord"
    path.write_bytes(golden("cased_128.tfrecord").read_bytes()[:-50])
    return {"input_file": path}


def flipped(folder: Path) -> dict[str, Any]:
    data = bytearray(golden("cased_128.tfrecord").read_bytes())
    data[1500] ^= 4
    path = folder / "flipped.tfrecord"
    path.write_bytes(data)
    return {"input_file": path}


def empty(folder: Path) -> dict[str, Any]:
    path = folder / "empty.tfrecord"
    path.touch()
    return {"input_file": path}


def with_sidecar(folder: Path, sidecar: dict[str, Any]) -> dict[str, Any]:
    path = Path(shutil.copy(golden("cased_128.tfrecord"), folder / "data.tfrecord"))
    write_sidecar(path, sidecar)
    return {"input_file": path}


def checkpoint_with(folder: Path, **changes: np.ndarray | None) -> dict[str, Any]:
    tensors = checkpoint.read_tensors(checkpoint.resolve_checkpoint(golden("model/init")))
    for name, value in changes.items():
        full = name.replace("__", "/")
        if value is None:
            del tensors[full]
        else:
            tensors[full] = value
    checkpoint.write_checkpoint(folder / "changed.ckpt", tensors)
    return {**TWO_LAYERS, "init_checkpoint": folder / "changed.ckpt"}


def file_as_output(folder: Path) -> dict[str, Any]:
    path = folder / "a_file"
    path.touch()
    return {"output_dir": path}


def transformers_folder(folder: Path, name: str = "") -> dict[str, Any]:
    for file in ("config.json", "model.safetensors"):
        (folder / file).touch()
    return {"init_checkpoint": folder / name}


MISTAKES: dict[str, tuple[Any, int, tuple[str, ...]]] = {
    "neither train nor eval": ({"do_train": None}, 2, ("--do_train", "--do_eval")),
    "no config": ({"bert_config_file": None}, 2, ("bert_config_file",)),
    "unknown flag": ({"learn_rate": 1}, 2, ("learn_rate",)),
    "use_tpu": ({"use_tpu": True}, 2, ("--use_tpu", "TPUs are not supported")),
    "tpu_name": ({"tpu_name": "x"}, 2, ("--tpu_name", "TPUs are not supported")),
    "master": ({"master": "grpc://x"}, 2, ("--master",)),
    "batch of no example": ({"train_batch_size": 0}, 2, ("train_batch_size",)),
    "no number": ({"num_train_steps": "many"}, 2, ("num_train_steps",)),
    "unknown precision": ({"precision": "int8"}, 2, ("precision", "mixed_bfloat16")),
    "unknown gelu": ({"gelu": "new"}, 2, ("gelu", "erf")),
    "parts that are not equal": ({"gradient_accumulation_steps": 3}, 2, ("equal parts",)),
    "learning rate 0": ({"learning_rate": 0}, 2, ("--learning_rate",)),
    "learning rate nan": ({"learning_rate": "nan"}, 2, ("--learning_rate",)),
    "eval_every alone": ({"eval_every": 5}, 2, ("--eval_input_file",)),
    "decay of no schedule": ({"decay_steps": 2}, 2, ("--decay_steps", "one_minus_sqrt")),
    "schedule without its decay": (
        {"learning_rate_schedule": "one_minus_sqrt"}, 2, ("--decay_steps from 1 to", "=3")
    ),
    "decay longer than the run": (
        {"learning_rate_schedule": "one_minus_sqrt", "decay_steps": 4}, 2, ("--decay_steps from 1",)
    ),
    "unknown schedule": ({"learning_rate_schedule": "cosine"}, 2, ("one_minus_sqrt",)),
    "no gain without evaluations": ({"stop_after_no_gain": 2}, 2, ("--eval_every",)),
    "measured without a plan": ({"measure": True}, 2, ("--plan",)),
    "two sets of one name": ({"eval_input_file": "a=x,b=y,a=z"}, 2, ("the name a",)),
    "a set without a name": ({"eval_input_file": "x,b=y"}, 2, ("NAME=FILES",)),
    "a transformers folder": (
        transformers_folder, 1, ("convert_from_transformers --transformers_dir=",)
    ),
    "a transformers file": (
        lambda f: transformers_folder(f, "model.safetensors"), 1, ("convert_from_transformers",)
    ),
    "missing config": ({"bert_config_file": "/nowhere.json"}, 1, ("/nowhere.json",)),
    "broken JSON": (bad_json, 1, ("broken JSON at line 1",)),
    "config without layers": (lambda f: config_without(f, "vocab_size"), 1, ("vocab_size",)),
    "heads do not divide": (lambda f: config_with(f, hidden_size=33), 1, ("not a multiple",)),
    "missing data": ({"input_file": "/nowhere/*.tfrecord"}, 1, ("no file matches",)),
    "missing held-out data": ({"eval_input_file": "/nowhere"}, 1, ("--eval_input_file",)),
    "empty data": (empty, 1, ("empty.tfrecord", "is empty")),
    "truncated data": (truncated, 1, ("short.tfrecord: record 1439 at byte", "in the middle")),
    "flipped byte": (flipped, 1, ("flipped.tfrecord: record 1 at byte", "checksum")),
    "data of other length": ({"max_seq_length": 64}, 1, ("has 128 values, expected 64",)),
    "data of other predictions": ({"max_predictions_per_seq": 22}, 1, ("20 values, expected 22",)),
    "longer than the model": ({"max_seq_length": 256}, 1, ("256", "128 positions")),
    "small vocabulary": (lambda f: config_with(f, vocab_size=50), 1, ("outside 0 to 49",)),
    "sidecar of other length": (
        lambda f: with_sidecar(f, {"flags": {"max_seq_length": 512}}), 1, ("--max_seq_length=512",)
    ),
    "sidecar of a larger vocabulary": (
        lambda f: with_sidecar(f, {"flags": {}, "vocabulary": {"entries": 28996}}), 1, ("28,996",)
    ),
    "sidecar of a smaller vocabulary": (
        lambda f: with_sidecar(f, {"vocabulary": {"entries": 900}}), 1,
        ("a vocabulary of 900 entries", "vocab_size of", "is 1,000"),
    ),
    "a plan for another vocabulary": (
        lambda f: {
            **with_sidecar(f, {"vocabulary": {"entries": 900}}), "plan": True, "do_train": None,
        },
        1, ("a vocabulary of 900 entries",),
    ),
    "missing checkpoint": ({"init_checkpoint": "/nowhere"}, 1, ("/nowhere",)),
    "misshapen variable": (
        lambda f: checkpoint_with(f, bert__pooler__dense__bias=np.zeros(7, np.float32)), 1,
        ("bert/pooler/dense/bias", "[7]", "[32]"),
    ),
    "missing variable": (
        lambda f: checkpoint_with(f, bert__pooler__dense__bias=None), 1, ("bert/pooler/dense/bias",)
    ),
    "unknown variable": (
        lambda f: checkpoint_with(f, bert__adapter=np.zeros(3, np.float32)), 1, ("bert/adapter",)
    ),
    "output is a file": (file_as_output, 1, ("--output_dir", "a_file is a file; a folder")),
    "output cannot be made": ({"output_dir": "/proc/run"}, 1, ("/proc/run",)),
    "nothing to evaluate": ({"do_train": None, "do_eval": True}, 1, ("holds no checkpoint",)),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changes, status, fragments = MISTAKES[mistake]
    changes = changes(tmp_path) if callable(changes) else changes
    output_dir = tmp_path / "run"
    result = run_here(capfd, **{**flags(output_dir), **changes})
    assert_one_line_error(result, status, *fragments)
    if output_dir.exists():
        assert not {path.suffix for path in output_dir.iterdir()} & {".index", ".txt"}


def test_flag_errors_and_help_come_within_a_second_without_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; from bert_clinical import run_pretraining as p;"
        "from data_prep.common import program;"
        "s = program.run_to_exit_status(p.__doc__, p.define_flags, p.main, sys.argv[1:]);"
        "assert not {'tensorflow', 'numba', 'matplotlib', 'pandas'} & set(sys.modules); sys.exit(s)"
    )
    given = arguments(**flags(tmp_path, use_tpu=True))
    refused = subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, cwd=ROOT
    )
    assert_one_line_error(refused, 2, "--use_tpu")
    shown = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert_success(shown)
    for name in ("--bert_config_file", "--gelu", "--gradient_accumulation_steps", "--master"):
        assert name in shown.stdout


@pytest.mark.slow
def test_trains_evaluates_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    init = golden("init_bertadam")
    result = run_here(
        capfd, **flags(tmp_path, init_checkpoint=init, do_eval=True, max_eval_steps=2, **TWO_LAYERS)
    )
    assert_success(result)
    assert result.stderr == ""
    for fragment in ("46 of 46 variables", "92 optimizer slot(s)", "convert_to_transformers",
                     "1,440 examples in 1 file(s)", "global_step = 3"):  # fmt: skip
        assert fragment in result.stdout
    lines = (tmp_path / "eval_results.txt").read_text().splitlines()
    assert lines[0] == "global_step = 3"
    assert [line.split(" = ")[0] for line in lines] == sorted(
        line.split(" = ")[0] for line in lines
    )
    assert len(lines[1].split(" = ")[1]) < 12
    record = json.loads((tmp_path / "pretraining_run.json").read_text())
    assert (record["gelu"], record["steps"], record["checkpoint"]) == ("tanh", 3, "model.ckpt-3")
    assert record["evaluation"]["global_step"] == 3
    assert "loss" in record["final"]

    again = run_here(capfd, **flags(tmp_path, init_checkpoint=init, **TWO_LAYERS))
    assert_success(again)
    assert "model.ckpt-3 at step 3; --init_checkpoint is not read" in again.stdout
    only_eval = flags(tmp_path, do_train=None, do_eval=True, max_eval_steps=3, **TWO_LAYERS)
    assert_success(run_here(capfd, **only_eval))
    kept = json.loads((tmp_path / "pretraining_run.json").read_text())
    assert (kept["final"], kept["steps"]) == (record["final"], 3)
    assert kept["evaluation"]["loss"] != record["evaluation"]["loss"]
    assert "--vocab_file=VOCAB --do_lower_case=BOOL" in result.stdout
    longer = flags(tmp_path, num_train_steps=5, train_batch_size=2, **TWO_LAYERS)
    assert_one_line_error(
        run_here(capfd, **longer), 1, "--num_train_steps was 3, now 5",
        "--train_batch_size was 4, now 2", "--allow_flag_changes",
    )  # fmt: skip
    allowed = run_here(capfd, **longer, allow_flag_changes=True)
    assert_success(allowed)
    assert "Going on from" in allowed.stdout
    assert (tmp_path / "model.ckpt-5.index").exists()
    other_gelu = flags(tmp_path, do_train=None, do_eval=True, gelu="erf", **TWO_LAYERS)
    assert_one_line_error(run_here(capfd, **other_gelu), 1, "--gelu=tanh", "--gelu=erf")


def evaluation_of(folder: Path) -> dict[str, str]:
    lines = (folder / "eval_results.txt").read_text().splitlines()
    return dict(line.split(" = ") for line in lines)


@pytest.mark.slow
def test_the_checkpoint_that_is_named_is_evaluated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert_success(run_here(capfd, **flags(run, save_checkpoints_steps=2, **TWO_LAYERS)))
    only = flags(run, do_train=None, do_eval=True, max_eval_steps=2, **TWO_LAYERS)
    steps = []
    for named in (None, run / "model.ckpt-2", golden("model/trained")):
        result = run_here(capfd, **{**only, "init_checkpoint": named})
        assert_success(result)
        found = evaluation_of(run)
        steps.append(found["global_step"])
        assert f"(step {found['global_step']}): 16 of 1,440 examples" in result.stdout
        assert str(named or run / "model.ckpt-3") in result.stdout
        record = json.loads((run / "pretraining_run.json").read_text())
        assert record["evaluation"]["global_step"] == int(found["global_step"])
        assert record["steps"] == 3
    assert steps == ["3", "2", "20"]
    nothing = run_here(capfd, **{**only, "init_checkpoint": tmp_path / "nothing"})
    assert_one_line_error(nothing, 1, f"{tmp_path / 'nothing'}: found no nothing.index")
    more = run_here(capfd, **{**only, "max_eval_steps": 200})
    assert "1,440 of 1,440 examples, in 200 batches of 8; they are read 1.1 times" in more.stdout


def test_several_sets_are_evaluated_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sets = f"all={golden('cased_128.tfrecord')},whole words={golden('wwm_128.tfrecord')}"
    values = flags(tmp_path, do_eval=True, max_eval_steps=2, eval_input_file=sets)
    assert_one_line_error(run_here(capfd, **values), 1, "--eval_input_file")
    values["eval_input_file"] = sets.replace("whole words", "whole_words")
    result = run_here(capfd, **values)
    assert_success(result)
    assert "(step 3) on whole_words: 16 of" in result.stdout
    assert "perplexity of the masked LM: " in result.stdout
    first = evaluation_of(tmp_path)
    assert set(first) == set(RESULTS)
    second = (tmp_path / "eval_results_whole_words.txt").read_text()
    assert f"loss = {first['loss']}" not in second
    record = json.loads((tmp_path / "pretraining_run.json").read_text())
    assert set(record["evaluations"]) == {"all", "whole_words"}
    assert record["evaluation"] == record["evaluations"]["all"]


def test_a_model_is_no_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = shutil.copytree(golden("model/init"), tmp_path / "released")
    before = sorted(path.name for path in model.iterdir())
    for changes in ({}, {"allow_flag_changes": True}):
        result = run_here(capfd, **flags(model, **changes))
        assert_one_line_error(
            result, 1, f"{model} holds a model (", "and no run", "--init_checkpoint=",
            "another --output_dir",
        )  # fmt: skip
    assert {path.name for path in model.iterdir()} - set(before) <= {
        "data_index.npz",
        "data_digests.json",
    }


@pytest.mark.slow
def test_a_start_that_makes_no_step_changes_no_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_success(run_here(capfd, **flags(tmp_path)))

    def records() -> list[bytes]:
        names = ("training_flags.json", "pretraining_run.json")
        return [(tmp_path / name).read_bytes() for name in names]

    before = records()
    erf = {"gelu": "erf", "allow_flag_changes": True}
    nothing_left = run_here(capfd, **flags(tmp_path, **erf))
    assert_success(nothing_left)
    assert "nothing is left to train" in nothing_left.stdout
    assert records() == before
    broken = {"num_train_steps": 9, "learning_rate": 1e30, "num_warmup_steps": 0}
    assert_one_line_error(
        run_here(capfd, **flags(tmp_path, **erf, **broken)), 1, "nothing was saved since"
    )
    assert records() == before
    # The message says what is right, and nothing that would make it wrong.
    wrong = run_here(capfd, **flags(tmp_path, do_train=None, do_eval=True, gelu="erf"))
    assert_one_line_error(wrong, 1, "pass --gelu=tanh")
    assert "allow_flag_changes" not in wrong.stderr


def test_an_evaluation_alone_says_nothing_of_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = golden("model/trained")
    values = flags(
        tmp_path, do_train=None, do_eval=True, max_eval_steps=2, gelu="erf", **TWO_LAYERS
    )
    assert_success(run_here(capfd, **values, init_checkpoint=model))
    record = json.loads((tmp_path / "pretraining_run.json").read_text())
    assert record["evaluation"]["global_step"] == 0
    assert not {"gelu", "flags", "steps", "data"} & set(record)


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"num_warmup_steps": 3}, ("--num_warmup_steps=3 is not below --num_train_steps=3",)),
        ({"num_warmup_steps": 2}, ()),
        ({"eval_input_file": golden("wwm_128.tfrecord")}, ("nothing reads --eval_input_file",)),
        (
            {"eval_input_file": golden("wwm_128.tfrecord"), "eval_every": 2, "max_eval_steps": 1},
            (),
        ),
    ],
)
def test_what_is_hardly_meant_is_said(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    fragments: tuple[str, ...],
) -> None:
    result = run_here(capfd, **flags(tmp_path, **changes))
    assert_success(result)
    lines = result.stderr.splitlines()
    assert len(lines) == len(fragments)
    for line, fragment in zip(lines, fragments, strict=True):
        assert fragment in line


def test_the_log_has_times_the_first_step_and_a_line_now_and_then(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_here(capfd, **flags(tmp_path / "slow", iterations_per_loop=1, num_train_steps=6))
    assert_success(result)
    for line in result.stdout.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S|\S+ +\S", line), line
    assert len(re.findall(r"^.{19} step \d+ of 6: loss", result.stdout, re.MULTILINE)) == 2
    monkeypatch.setattr(log, "_SECONDS_BETWEEN_LINES", 0.0)
    often = run_here(capfd, **flags(tmp_path / "often", iterations_per_loop=1, num_train_steps=6))
    said = re.findall(r"^.{19} step (\d+) of 6: loss .* tokens/s, .* left$", often.stdout, re.M)
    assert said == ["1", "2", "3", "4", "5", "6"]
    lines = (tmp_path / "often" / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [6]


def test_a_plan_says_how_long(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_MEASURED_SECONDS", 0.1)
    values = flags(tmp_path, do_train=None, plan=True, num_train_steps=100000)
    estimated = run_here(capfd, **values)
    assert_success(estimated)
    assert re.search(r"^Time: .* or more, which .*; --measure makes a few", estimated.stdout, re.M)
    assert not list(tmp_path.glob("*.json*"))
    result = run_here(capfd, **values, measure=True)
    assert_success(result)
    assert re.search(
        r"^Measured in \d+ steps: [\d,.]+ examples/s, [\d,.]+ tokens/s, .* left before the first "
        r"of 100,000 steps", result.stdout, re.M,
    )  # fmt: skip
    assert not list(tmp_path.glob("*.json*"))
    assert not list(tmp_path.glob("model.ckpt*"))


def test_the_command_that_converts_is_complete_where_the_data_tells(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made_with = {"flags": {"vocab_file": "my vocab.txt", "do_lower_case": False}}
    result = run_here(
        capfd, **flags(tmp_path / "run", num_train_steps=1, **with_sidecar(tmp_path, made_with))
    )
    assert_success(result)
    assert "--vocab_file='my vocab.txt' --do_lower_case=False --output_dir=" in result.stdout


def test_plan_trains_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = flags(tmp_path, do_train=None, plan=True, device_memory_gb=0.1, **TWO_LAYERS)
    result = run_here(capfd, **values)
    assert_success(result)
    for fragment in ("Parameters: 56,554", "Does not fit", "1,440 examples, 360 steps each pass"):
        assert fragment in result.stdout
    assert not list(tmp_path.glob("model.ckpt*"))


def test_no_token_gets_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Records that hold a planted id and word, healthy and damaged: neither is ever shown."""
    planted_id, planted_word = 987654321, b"Xylophonectomy"
    feature = pretraining_features(128, 20)
    values = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=[1.0] * length))
        if dtype == "float32"
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[1] * length))
        for name, (dtype, length) in feature.items()
    }
    values["input_ids"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[planted_id] * 128))
    values["text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[planted_word]))
    record = tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()
    good = framed(record)
    at = good.index(planted_word)
    damaged = good[:at] + b"Z" + good[at + 1 :]
    cut = framed(record[:-30])
    for name, data in {
        "id": good,
        "damaged": damaged,
        "cut": cut,
        "word": planted_word * 9,
    }.items():
        path = tmp_path / f"{name}.tfrecord"
        path.write_bytes(data)
        result = run_here(capfd, **flags(tmp_path / name, input_file=path))
        assert_one_line_error(result, 1, f"{name}.tfrecord: record 0")
        for text in (result.stdout, result.stderr):
            assert str(planted_id) not in text
            assert planted_word.decode() not in text


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Makes the folder a disk of its own; yields what gives it another size."""

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)

    folder.mkdir()
    try:
        mount(f"size={size}")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here: that takes root's rights")
    try:
        yield lambda size: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_costs_nothing_but_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "num_train_steps": 12, "save_checkpoints_steps": 1, "keep_checkpoint_max": 0, **TWO_LAYERS
    }  # fmt: skip
    whole = tmp_path / "whole"
    assert_success(run_here(capfd, **flags(whole, **settings)))
    with small_disk(tmp_path / "disk", "4m") as resize:
        run = tmp_path / "disk" / "run"
        result = finished(start(run, **settings))
        assert_one_line_error(result, 1, "the checkpoint needs 678,656 bytes", "free some space")
        last = checkpoint.latest_checkpoint(run)
        assert last is not None
        step = checkpoint.checkpoint_step(last)
        assert 1 <= step < 12
        assert f"model.ckpt-{step + 1}:" in result.stderr
        assert_same_tensors(Path(last), whole / f"model.ckpt-{step}")
        assert not list(run.glob("*.partial*"))
        assert not list(run.glob(f"model.ckpt-{step + 1}.*"))

        resize("16m")
        again = run_here(capfd, **flags(run, **settings))
        assert_success(again)
        assert f"at step {step}" in again.stdout
        assert_same_tensors(run / "model.ckpt-12", whole / "model.ckpt-12")


def assert_same_tensors(one: Path, other: Path) -> None:
    found, expected = checkpoint.read_tensors(str(one)), checkpoint.read_tensors(str(other))
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "events; No space left on device"),
    ],
)
def test_a_disk_that_fills_up_while_the_log_is_written(error: Exception) -> None:
    with (
        pytest.raises(UserError, match="the disk of --output_dir is full"),
        translated_errors(TrainingOptions()),
    ):
        raise error


def start(output_dir: Path, **changes: Any) -> WarmProcess:
    return start_program(MODULE, **flags(output_dir, **changes))


def start_by_shell(
    output_dir: Path, python: str | Path = sys.executable, **changes: Any
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(python), "-m", MODULE, *arguments(**flags(output_dir, **changes))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "start"),
    [
        (signal.SIGTERM, start_by_shell),
        (signal.SIGINT, start),
        (signal.SIGHUP, start),
        # As the scripts under test are given Python.
        (signal.SIGUSR1, lambda *args, **flags: start_by_shell(*args, warm_python(), **flags)),
    ],
)
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(
    tmp_path: Path, number: signal.Signals, start: Callable[..., Process]
) -> None:
    process = start(tmp_path, num_train_steps=100000, save_checkpoints_steps=10)
    wait_until((tmp_path / "model.ckpt-10.index").exists, process)
    process.send_signal(number)
    result = finished(process)
    assert result.returncode == 128 + number, result.stderr
    latest = checkpoint.latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest in result.stdout
    step = checkpoint.checkpoint_step(latest)
    assert f"Stopped by signal {number.value} after step {step}" in result.stdout
    assert result.stderr == ""


def test_two_runs_do_not_train_in_one_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with atomic_files.held(tmp_path, "run_pretraining"):
        result = run_here(capfd, **flags(tmp_path))
    assert_one_line_error(result, 1, str(tmp_path), "another run_pretraining")
    assert not list(tmp_path.glob("model.ckpt*"))


@pytest.mark.slow
def test_killed_twice_the_weights_are_the_same(tmp_path: Path) -> None:
    """Kills a run of 60 steps at random moments, then compares with one that nobody disturbed.

    A checkpoint is written after every step, so that most kills fall into the writing of one. What
    kills at each moment, and again and again, are `tests.drills.kill_every_write` and `soak`.
    """
    settings = {
        "num_train_steps": 60,
        "save_checkpoints_steps": 1,
        "keep_checkpoint_max": 2,
        **config_with(
            tmp_path, num_hidden_layers=1, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1
        ),
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    def finish(output_dir: Path, **changes: Any) -> None:
        run = start(output_dir, **{**settings, **changes})
        run.communicate()
        assert run.poll() == 0

    def newest_step() -> int:
        return max(
            (int(p.stem.rpartition("-")[2]) for p in parts.glob("model.ckpt-*[0-9].index")),
            default=0,
        )

    finish(whole, save_checkpoints_steps=60)
    draw = random.Random(1)
    for _ in range(2):
        before = newest_step()
        if before == 60:
            break
        run = start(parts, **settings)
        # Wait for the run to make steps of its own, so that each kill hits another moment of it.
        end = time.monotonic() + HANG_SECONDS
        while newest_step() <= before:
            assert run.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.15))
        run.kill()
        run.communicate()
        assert checkpoint.latest_checkpoint(parts) is not None
    finish(parts)
    assert_same_tensors(parts / "model.ckpt-60", whole / "model.ckpt-60")
    assert not list(parts.glob("*.partial*"))
    steps = [json.loads(line)["step"] for line in (parts / "training_log.jsonl").open()]
    assert steps == [60]
