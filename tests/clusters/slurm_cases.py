"""Jobs of run_scripts/slurm on a real SLURM: one that is preempted, two nodes, a node that is lost.

python -m pytest tests/clusters/slurm_cases.py -n 0 -v -s
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.weights import checkpoint
from tests.clusters import nodes, slurm
from tests.clusters.slurm import Slurm
from tests.golden_data import golden
from tests.pretraining.training_workers import assert_same_weights
from tests.programs.test_run_scripts import make_biobert
from tests.running import HANG_SECONDS, ROOT, assert_success, run_program

SCRIPTS = ROOT / "run_scripts" / "slurm"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    reason = nodes.why_none() or slurm.why_none()
    if reason is not None:
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def training(folder: Path, **changes: Any) -> dict[str, Any]:
    """Returns the variables of a run of some hundred steps, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    biobert = folder / "biobert"
    if not biobert.exists():
        make_biobert(biobert)
    return {
        "PYTHON": sys.executable, "LOGS": folder / "logs", "CPUS": 1, "MEMORY": "1G", "GPUS": 0,
        "TIME": "30", "INPUT_FILE": golden("cased_128.tfrecord"), "INIT_CHECKPOINT": biobert,
        "OUTPUT_DIR": folder / "model", "TRAIN_BATCH_SIZE": 8, "NUM_TRAIN_STEPS": 600,
        "NUM_WARMUP_STEPS": 50, "SAVE_CHECKPOINTS_STEPS": 100, "LEARNING_RATE": "1e-4", **changes,
    }  # fmt: skip


def in_jobs(variables: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables with the Python that jobs find by themselves, that of .venv."""
    return {name: value for name, value in variables.items() if name != "PYTHON"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same training without SLURM."""
    variables = training(tmp_path_factory.mktemp("undisturbed"))
    env = {"PATH": "/usr/bin:/bin", **{name: str(value) for name, value in variables.items()}}
    script = ROOT / "run_scripts" / "run_pretraining.sh"
    result = subprocess.run([script], env=env, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert result.returncode == 0, result.stderr
    return Path(variables["OUTPUT_DIR"])


def log_of(variables: dict[str, Any], job: str) -> str:
    return (variables["LOGS"] / f"pretraining-{job}.out").read_text()


def wait_for_checkpoint(cluster: Slurm, job: str, model: Path) -> None:
    cluster.wait(job, "RUNNING")
    limit = time.monotonic() + HANG_SECONDS
    while not list(model.glob("model.ckpt-*.index")):
        assert cluster.facts(job)["JobState"] == "RUNNING"
        assert time.monotonic() < limit
        time.sleep(0.1)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return checkpoint.read_tensors(checkpoint.resolve_checkpoint(str(folder)))


def test_a_job_that_is_preempted_ends_with_the_same_weights(
    cluster: Slurm, tmp_path: Path, undisturbed: Path
) -> None:
    variables = training(tmp_path)
    job = cluster.submit(SCRIPTS / "pretraining.sh", **in_jobs(variables))
    model = tmp_path / "model"
    wait_for_checkpoint(cluster, job, model)
    node = cluster.facts(job)["NodeList"]
    first = cluster.submit(
        "sbatch", "--partition=high", f"--nodelist={node}", "--output=/dev/null", "--wrap=sleep 1"
    )
    cluster.wait(first, "COMPLETED")
    cluster.start_now(job)
    facts = cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED")
    said = log_of(variables, job)
    print(said)
    assert facts["JobState"] == "COMPLETED" and facts["Restarts"] == "1"
    assert f"Stopped with status 138, saved; job {job} is queued again (restart 1)." in said
    found, expected = weights(model), weights(undisturbed)
    assert found["global_step"] == 600
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_job_that_is_cancelled_is_not_queued_again(cluster: Slurm, tmp_path: Path) -> None:
    variables = training(tmp_path, NUM_TRAIN_STEPS=1000000)
    job = cluster.submit(SCRIPTS / "pretraining.sh", **in_jobs(variables))
    wait_for_checkpoint(cluster, job, tmp_path / "model")
    cluster.run("scancel", job)
    facts = cluster.wait(job, "CANCELLED", "PENDING", "FAILED", "COMPLETED")
    print(log_of(variables, job))
    assert facts["JobState"] == "CANCELLED" and facts["Restarts"] == "0"


def test_two_nodes_train_as_one(cluster: Slurm, tmp_path: Path, undisturbed: Path) -> None:
    variables = training(tmp_path, NODES=2)
    job = cluster.submit(SCRIPTS / "pretraining_on_nodes.sh", **in_jobs(variables))
    facts = cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED")
    said = log_of(variables, job)
    print(said)
    assert facts["JobState"] == "COMPLETED" and facts["NumNodes"] == "2"
    assert f"of SLURM's job {job}; the chief, which writes checkpoints and logs; waits for" in said
    assert "the chief is worker 0 (node1:" in said
    assert_same_weights(tmp_path / "model", undisturbed, tolerance=1e-4)


def test_two_nodes_are_stopped_saved_and_go_on(cluster: Slurm, tmp_path: Path) -> None:
    variables = training(tmp_path, NODES=2, NUM_TRAIN_STEPS=1000000)
    job = cluster.submit(SCRIPTS / "pretraining_on_nodes.sh", **in_jobs(variables))
    wait_for_checkpoint(cluster, job, tmp_path / "model")
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    cluster.wait(job, "PENDING")
    latest = weights(tmp_path / "model")["global_step"]
    assert f"job {job} is queued again (restart 1)" in log_of(variables, job)
    cluster.start_now(job)
    cluster.wait(job, "RUNNING")
    limit = time.monotonic() + HANG_SECONDS
    while weights(tmp_path / "model")["global_step"] <= latest:
        assert time.monotonic() < limit
        time.sleep(1)
    cluster.run("scancel", job)
    cluster.wait(job, "CANCELLED")
    print(log_of(variables, job))


@pytest.mark.parametrize("how", ["its power fails", "its cable is pulled"])
def test_a_node_that_is_lost_ends_the_others_within_a_minute(
    cluster: Slurm, tmp_path: Path, how: str
) -> None:
    variables = training(tmp_path, NODES=2, NUM_TRAIN_STEPS=1000000)
    job = cluster.submit(SCRIPTS / "pretraining_on_nodes.sh", "--keep_checkpoint_max=2",
                         **in_jobs(variables))  # fmt: skip
    wait_for_checkpoint(cluster, job, tmp_path / "model")
    begin = time.monotonic()
    trainers = [pid for pid in cluster.nodes[0].processes() if is_trainer(pid)]
    assert trainers
    if how == "its power fails":
        cluster.nodes[1].kill()
    else:
        cluster.nodes[1].disconnect()
    try:
        while any(map(is_trainer, trainers)):
            assert time.monotonic() - begin < 60, "the first node still trains"
            time.sleep(0.2)
        print(f"{how}: the other ended {time.monotonic() - begin:.0f} s later")
    finally:
        cluster.nodes[1].reconnect()
        if how == "its power fails":
            cluster.restart(1)
    # SLURM queues a job again whose node has failed; otherwise it has failed.
    facts = cluster.wait(job, "FAILED", "PENDING", "RUNNING", "NODE_FAIL")
    cluster.run("scancel", job)
    print(facts["JobState"], log_of(variables, job))
    assert checkpoint.latest_checkpoint(tmp_path / "model") is not None


def is_trainer(pid: int) -> bool:
    """Tells whether a process is the program, and no script or srun that started it."""
    try:
        return "-m\0bert_clinical.run_pretraining\0" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_the_recipe_is_a_chain_of_jobs(cluster: Slurm, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for seed, name in enumerate(("a.csv", "b.csv")):
        result = run_program(
            "data_prep.sample_notes", output_file=notes / name, num_notes=40, random_seed=seed
        )
        assert_success(result)
    settings = training(
        tmp_path, NOTES=notes / "*.csv", BIOBERT_DIR=tmp_path / "biobert", OUTPUT_DIR=tmp_path,
        SENTENCE_SPLITTER="rules", HELD_OUT_FRACTION="0.2", DUPE_FACTOR=1, TRAIN_BATCH_SIZE=4,
        NUM_TRAIN_STEPS=4, NUM_WARMUP_STEPS=1, MAX_EVAL_STEPS=2,
    )  # fmt: skip
    said = cluster.run(SCRIPTS / "recipe.sh", **in_jobs(settings))
    print(said)
    jobs = [line.split()[1].rstrip(":") for line in said.splitlines()]
    assert len(jobs) == 4
    facts = cluster.wait(jobs[-1], "COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL")
    for log in sorted((tmp_path / "logs").iterdir()):
        print(f"{log.name}:", log.read_text(), sep="\n")
    assert facts["JobState"] == "COMPLETED"
    for part in ("a", "b"):
        assert (tmp_path / "text" / part / "manifest.json").exists()
        assert (tmp_path / "tfrecords" / part / "discharge_summary.held_out.tfrecord").exists()
    assert "global_step = 4" in (tmp_path / "model" / "eval_results.txt").read_text()
    assert (tmp_path / "transformers" / "model.safetensors").exists()
