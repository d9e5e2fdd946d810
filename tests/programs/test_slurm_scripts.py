"""The jobs for SLURM, with stand-ins for its commands.

With SLURM itself: `python -m tests.clusters slurm`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs.test_run_scripts import assert_fails
from tests.running import HANG_SECONDS, ROOT

# Writes what it was called with, and the variables that matter, as a line of JSON.
RECORDER = """#!{python}
import json, os, sys
names = ("INPUT_FILE", "NOTES", "OUTPUT_DIR", "NUM_WORKERS", "CPUS", "NUM_TASKS", "ROOT", "PYTHON",
         "MAX_SEQ_LENGTH", "MAX_PREDICTIONS_PER_SEQ", "INIT_CHECKPOINT", "MODEL_DIR",
         "NUM_TRAIN_STEPS")
told = {{name: os.environ[name] for name in names if name in os.environ}}
with open({log!r}, "a") as log:
    print(json.dumps([sys.argv[1:], told]), file=log)
with open({log!r}) as log:
    print("{says}", 100 + len(log.readlines()))
sys.exit({status})
"""


class Site:
    """A folder with inputs, and commands that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools").mkdir()
        for name in ("a.csv.gz", "b.csv.gz", "c.csv"):
            (folder / name).touch()
        self.record("sbatch", says="Submitted batch job")
        self.record("python")

    def record(self, name: str, says: str = "", status: int = 0) -> None:
        tool = self.folder / "tools" / name
        log = str(self.folder / f"{name}.log")
        tool.write_text(RECORDER.format(python=sys.executable, log=log, says=says, status=status))
        tool.chmod(0o755)

    def tool(self, name: str, code: str) -> None:
        (self.folder / "tools" / name).write_text(f"#!/usr/bin/env bash\n{code}\n")
        (self.folder / "tools" / name).chmod(0o755)

    def calls(self, name: str) -> list[tuple[list[str], dict[str, str]]]:
        log = self.folder / f"{name}.log"
        return [tuple(json.loads(line)) for line in log.read_text().splitlines()]

    def run(
        self, script: str, *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        tools = self.folder / "tools"
        env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        env |= {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": str(tools / "python")}
        return subprocess.run(
            [str(ROOT / "run_scripts" / "slurm" / script), *arguments], cwd=self.folder,
            env={**env, **variables}, capture_output=True, text=True, timeout=HANG_SECONDS,
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_an_array_has_a_task_for_each_file(site: Site) -> None:
    variables = {"NOTES": "*.csv.gz,c.csv", "OUTPUT_DIR": "text"}
    result = site.run(
        "format_notes.sh", "--skip_bad_rows", **variables, CPUS="3", MEMORY="5G",
        TIME="01:00:00", PARTITION="night", ACCOUNT="hospital", SBATCH_OPTIONS="--qos=low --nice",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    ((options, told),) = site.calls("sbatch")
    assert options[-2:] == [str(ROOT / "run_scripts" / "slurm" / "format_notes.sh"),
                            "--skip_bad_rows"]  # fmt: skip
    assert {
        "--array=0-2%16", "--cpus-per-task=3", "--mem=5G", "--time=01:00:00",
        "--partition=night", "--account=hospital", "--qos=low", "--nice",
        "--output=slurm_logs/%x-%j.out",
    } <= set(options)  # fmt: skip
    # A job finds the project where it was, and a Python of its own.
    assert told["ROOT"] == str(ROOT) and "PYTHON" not in told


def test_a_task_takes_its_file(site: Site) -> None:
    for number, (name, folder) in enumerate([("a.csv.gz", "a"), ("b.csv.gz", "b"), ("c.csv", "c")]):
        result = site.run(
            "format_notes.sh", NOTES="*.csv.gz,c.csv", OUTPUT_DIR="text", SLURM_JOB_ID="7",
            SLURM_ARRAY_TASK_ID=str(number), SLURM_CPUS_PER_TASK="5",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        arguments, _ = site.calls("python")[-1]
        assert arguments[:2] == ["-m", "data_prep.format_notes"]
        assert f"--input_file={name}" in arguments and f"--output_dir=text/{folder}" in arguments
        assert "--num_workers=5" in arguments
    result = site.run(
        "format_notes.sh", NOTES="c.csv", OUTPUT_DIR="text", SLURM_JOB_ID="7",
        SLURM_ARRAY_TASK_ID="1",
    )  # fmt: skip
    assert_fails(result, 1, "task 1 has no file among 1")


def test_texts_of_a_folder_and_single_ones(site: Site) -> None:
    (site.folder / "text" / "a").mkdir(parents=True)
    for name, text in (("a/x.txt", "a"), ("a/y.txt", "a"), ("a/empty.txt", ""), ("b.txt", "b")):
        (site.folder / "text" / name).write_text(text)
    (site.folder / "text" / "c").mkdir()
    job = {"INPUT_FILE": "text/*", "VOCAB_FILE": "v", "OUTPUT_DIR": "out", "SLURM_JOB_ID": "7"}
    script = "create_pretraining_data.sh"
    expected = [("text/a/x.txt,text/a/y.txt", "out/a"), ("text/b.txt", "out")]
    for number, (inputs, output) in enumerate(expected):
        assert site.run(script, **job, SLURM_ARRAY_TASK_ID=str(number)).returncode == 0
        arguments, _ = site.calls("python")[-1]
        assert f"--input_file={inputs}" in arguments and f"--output_dir={output}" in arguments
    lengths = {"MAX_SEQ_LENGTH": "128,512", "OUTPUT_DIR": "out,long"}
    assert site.run(script, **{**job, **lengths}, SLURM_ARRAY_TASK_ID="0").returncode == 0
    assert "--output_dir=out/a,long/a" in site.calls("python")[-1][0]
    result = site.run(script, **job, SLURM_ARRAY_TASK_ID="2")
    assert result.returncode == 0 and "all text is empty" in result.stdout
    assert len(site.calls("python")) == 3


TRAINING = {"INIT_CHECKPOINT": "biobert", "OUTPUT_DIR": "model", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("status", "state", "queued"),
    [
        (0, "RUNNING", False),
        (1, "RUNNING", False),
        (137, "RUNNING", False),
        *((128 + number, "RUNNING", True) for number in (1, 2, 10, 12, 15)),
        (143, "CANCELLED", False),
    ],
)
def test_only_a_saved_stop_is_queued_again(
    site: Site, status: int, state: str, queued: bool
) -> None:
    site.record("python", status=status)
    site.tool("squeue", f"echo {state}")
    site.record("scontrol")
    result = site.run("pretraining.sh", "--jit_compile", **TRAINING, INPUT_FILE="x.tfrecord")
    assert result.returncode == status
    ((arguments, _),) = site.calls("python")
    assert "--input_file=x.tfrecord" in arguments and arguments[-1] == "--jit_compile"
    calls = site.calls("scontrol") if (site.folder / "scontrol.log").exists() else []
    assert [arguments for arguments, _ in calls] == [["requeue", "7"]] * queued


def test_a_folder_of_examples_and_those_held_out(site: Site) -> None:
    (site.folder / "tfrecords" / "a").mkdir(parents=True)
    names = ("a/d.tfrecord", "a/d.held_out.tfrecord", "e-00000-of-00002.tfrecord",
             "e.held_out-00000-of-00002.tfrecord")  # fmt: skip
    for name in names:
        (site.folder / "tfrecords" / name).write_text("examples")
    (site.folder / "tfrecords" / "empty.tfrecord").touch()
    assert site.run("pretraining.sh", **TRAINING, INPUT_FILE="tfrecords").returncode == 0
    found = [f"tfrecords/{name}" for name in names]
    assert f"--input_file={found[0]},{found[2]}" in site.calls("python")[-1][0]
    end = {"MODEL_DIR": "model", "BIOBERT_DIR": "biobert", "OUTPUT_DIR": "t", "SLURM_JOB_ID": "7"}
    assert site.run("transformers.sh", **end, INPUT_FILE="tfrecords").returncode == 0
    evaluation, conversion = (arguments for arguments, _ in site.calls("python")[-2:])
    assert f"--input_file={found[1]},{found[3]}" in evaluation and "--do_eval" in evaluation
    assert "--init_checkpoint=model" in conversion and "--output_dir=t" in conversion
    for name in found[1], found[3]:
        (site.folder / name).unlink()
    assert site.run("transformers.sh", **end, INPUT_FILE="tfrecords").returncode == 0
    assert f"--input_file={found[0]},{found[2]}" in site.calls("python")[-2][0]
    shutil.rmtree(site.folder / "tfrecords" / "a")
    (site.folder / found[2]).unlink()
    result = site.run("pretraining.sh", **TRAINING, INPUT_FILE="tfrecords")
    assert_fails(result, 1, "tfrecords: found no examples to train on")


def test_nodes_are_asked_for_and_srun_starts_a_task_on_each(site: Site) -> None:
    variables = {name: value for name, value in TRAINING.items() if name != "SLURM_JOB_ID"}
    script = "pretraining_on_nodes.sh"
    result = site.run(script, **variables, INPUT_FILE="x", NODES="4", GPUS="8")
    assert result.returncode == 0, result.stderr
    ((options, _),) = site.calls("sbatch")
    assert {"--nodes=4", "--ntasks-per-node=1", "--gpus-per-node=8"} <= set(options)
    site.record("srun")
    assert site.run(script, "--jit_compile", **TRAINING, INPUT_FILE="x").returncode == 0
    ((arguments, _),) = site.calls("srun")
    assert "--kill-on-bad-exit=1" in arguments and "--distribution=block" in arguments
    program = str(ROOT / "run_scripts" / "run_pretraining.sh")
    assert arguments[-2:] == [program, "--jit_compile"]


def test_a_container_stands_in_for_python(site: Site) -> None:
    site.record("apptainer")
    result = site.run(
        "format_notes.sh", NOTES="c.csv", OUTPUT_DIR="text", SLURM_JOB_ID="7",
        CONTAINER="image.sif", CONTAINER_OPTIONS="--nv --bind /scratch",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    ((arguments, _),) = site.calls("apptainer")
    assert arguments[:7] == ["exec", "--nv", "--bind", "/scratch", "image.sif", "python", "-m"]


def test_the_chain_waits_for_each_stage(site: Site) -> None:
    (site.folder / "biobert").mkdir()
    (site.folder / "biobert" / "vocab.txt").touch()
    variables = {"NOTES": "*.csv*", "BIOBERT_DIR": "biobert", "OUTPUT_DIR": "out"}
    result = site.run("recipe.sh", "--jit_compile", **variables, PRETRAINING_CPUS="9", NODES="2")
    assert result.returncode == 0, result.stderr
    calls = site.calls("sbatch")
    scripts = [next(Path(a).name for a in options if a.endswith(".sh")) for options, _ in calls]
    assert scripts == [
        "format_notes.sh", "create_pretraining_data.sh", "pretraining_on_nodes.sh",
        "transformers.sh",
    ]  # fmt: skip
    waits = [[o for o in options if o.startswith("--dependency")] for options, _ in calls]
    assert waits == [
        [], ["--dependency=aftercorr:101"], ["--dependency=afterok:102"],
        ["--dependency=afterok:103"],
    ]  # fmt: skip
    assert "--array=0-2%16" in calls[0][0] and "--array=0-2%16" in calls[1][0]
    assert calls[1][1]["INPUT_FILE"] == "out/text/a,out/text/b,out/text/c"
    assert "--cpus-per-task=9" in calls[2][0] and calls[2][0][-1] == "--jit_compile"
    assert calls[3][0][-1].endswith(".sh")
    assert result.stdout.splitlines()[-1] == "job 104: transformers.sh, after afterok:103"


def test_the_chain_has_a_second_phase(site: Site) -> None:
    (site.folder / "biobert").mkdir()
    (site.folder / "biobert" / "vocab.txt").touch()
    (site.folder / "biobert" / "bert_config.json").write_text('{"max_position_embeddings": 512}')
    variables = {"NOTES": "c.csv", "BIOBERT_DIR": "biobert", "OUTPUT_DIR": "out"}
    phase = {"PHASE2_STEPS": "100", "PHASE2_LEARNING_RATE": "1e-5"}
    result = site.run("recipe.sh", "--jit_compile", **variables, **phase)
    assert result.returncode == 0, result.stderr
    _, (_, examples), (_, first), (ended, _), (options, second), (last, end) = site.calls("sbatch")
    assert examples["OUTPUT_DIR"] == "out/tfrecords,out/phase2/tfrecords"
    assert examples["MAX_SEQ_LENGTH"] == "128,512"
    assert examples["MAX_PREDICTIONS_PER_SEQ"] == "20,77"
    assert first["INPUT_FILE"] == "out/tfrecords" and "MAX_SEQ_LENGTH" not in first
    assert second["INIT_CHECKPOINT"] == "out/model" and second["OUTPUT_DIR"] == "out/phase2/model"
    assert second["INPUT_FILE"] == "out/phase2/tfrecords"
    assert (second["MAX_SEQ_LENGTH"], second["NUM_TRAIN_STEPS"]) == ("512", "100")
    assert options[-1] == "--jit_compile"
    # The first model is evaluated and converted while the second phase trains.
    assert "--dependency=afterok:103" in ended and "--dependency=afterok:103" in options
    assert "--dependency=afterok:105" in last
    assert end["MODEL_DIR"] == "out/phase2/model" and end["MAX_SEQ_LENGTH"] == "512"
    assert end["OUTPUT_DIR"] == "out/phase2/transformers"
    result = site.run("recipe.sh", **variables, **phase, PHASE2_MAX_SEQ_LENGTH="513")
    assert_fails(result, 1, "PHASE2_MAX_SEQ_LENGTH is 513", "takes 512 positions at most")
    assert len(site.calls("sbatch")) == 6


@pytest.mark.parametrize(
    ("script", "variables", "status", "message"),
    [
        ("format_notes.sh", {"OUTPUT_DIR": "o"}, 2, "NOTES is not set"),
        ("format_notes.sh", {"NOTES": "gone*", "OUTPUT_DIR": "o"}, 1, "no file matches gone*"),
        ("create_pretraining_data.sh", {"INPUT_FILE": "c.csv"}, 2, "VOCAB_FILE is not set"),
        ("pretraining.sh", {"INPUT_FILE": "x"}, 2, "INIT_CHECKPOINT is not set"),
        ("transformers.sh", {"INPUT_FILE": "x"}, 2, "MODEL_DIR is not set"),
        ("recipe.sh", {"NOTES": "c.csv"}, 2, "BIOBERT_DIR is not set"),
        ("recipe.sh", {"NOTES": "c.csv", "BIOBERT_DIR": "b", "OUTPUT_DIR": "o"}, 1, "b/vocab.txt"),
        (
            "recipe.sh",
            {"NOTES": "c.csv", "BIOBERT_DIR": "b", "OUTPUT_DIR": "o", "AUDIT": "20"},
            2,
            "AUDIT is 20, but the chain plants and audits nothing",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_queued(
    site: Site, script: str, variables: dict[str, str], status: int, message: str
) -> None:
    assert_fails(site.run(script, **variables), status, message)
    assert not (site.folder / "sbatch.log").exists()
