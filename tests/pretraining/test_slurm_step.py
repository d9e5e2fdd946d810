"""The tasks of a SLURM step are workers, by the variables that srun sets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bert_clinical.pretraining.slurm_step import expand_host_list
from bert_clinical.pretraining.worker_cluster import WorkerCluster, from_environment
from data_prep.common.errors import UserError

# As SLURM 22.05 sets them for `srun --nodes=2`.
TWO_NODES = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURMD_NODENAME": "node2",
}
FOUR_TASKS = {
    **TWO_NODES,
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "3,1",
    "SLURM_LOCALID": "2",
    "SLURM_PROCID": "2",
    "SLURMD_NODENAME": "node1",
}


@pytest.mark.parametrize(
    ("short", "names"),
    [
        ("a", ["a"]),
        ("node[1-2]", ["node1", "node2"]),
        ("gpu[08-11,3]-x,login", ["gpu08-x", "gpu09-x", "gpu10-x", "gpu11-x", "gpu3-x", "login"]),
        ("r[1-2]n[01,3].site", ["r1n01.site", "r1n3.site", "r2n01.site", "r2n3.site"]),
        ("node[2,10],node1", ["node2", "node10", "node1"]),
        ("a-1,b-2", ["a-1", "b-2"]),
    ],
)
def test_names_of_nodes(short: str, names: list[str]) -> None:
    assert expand_host_list(short) == names


def test_every_task_finds_the_same_workers() -> None:
    found = from_environment(TWO_NODES)
    addresses = ("node1:20217", "node2:20218")
    assert found == WorkerCluster(
        addresses, 1, source="SLURM's job 7", environment=found.environment if found else {}
    )
    assert found is not None
    assert json.loads(found.environment["TF_CONFIG"]) == {
        "cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": 1},
    }  # fmt: skip
    assert found.introduction() == (
        "worker 1 (node2:20218) of SLURM's job 7; the chief is worker 0 (node1:20217); "
        "waits for worker 0 (node1:20217)"
    )


def test_several_tasks_on_a_node() -> None:
    found = from_environment(FOUR_TASKS)
    assert found is not None
    hosts = [address.partition(":")[0] for address in found.addresses]
    assert hosts == ["node1", "node1", "node1", "node2"] and found.index == 2
    assert len(set(found.addresses)) == 4
    assert found.introduction().endswith(
        "waits for worker 0 (node1:20217), worker 1 (node1:20218), worker 3 (node2:20220)"
    )


def test_tf_config_comes_first() -> None:
    config = json.dumps(
        {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}
    )
    found = from_environment({**TWO_NODES, "TF_CONFIG": config})
    assert found is not None and found.addresses == ("a:1", "b:2")


@pytest.mark.parametrize(
    "values",
    [
        # A batch script knows how many tasks srun could start, but is none of them.
        {name: value for name, value in TWO_NODES.items() if "STEP" not in name},
        {**TWO_NODES, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": "node1"},
    ],
)
def test_what_is_no_task_of_several_is_alone(values: dict[str, str]) -> None:
    assert from_environment(values) is None


def test_tasks_that_are_dealt_out_in_turn_are_refused() -> None:
    with pytest.raises(UserError, match=r"task 2 runs on node2, expected node1.*--distribution"):
        from_environment({**FOUR_TASKS, "SLURMD_NODENAME": "node2"})


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1,2"}, "2"),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5"}, "4,5"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c", "SLURM_LOCALID": "0"}, "GPU-a"),
        # SLURM has given each task its own already.
        ({"CUDA_VISIBLE_DEVICES": "0"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2", "SLURM_GPUS_PER_TASK": "3"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2", "SLURM_GPU_BIND": "closest"}, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, None),
        ({}, None),
        # The only task of its node takes them all.
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_PROCID": "3", "SLURM_LOCALID": "0",
          "SLURMD_NODENAME": "node2"}, None),
    ],
)  # fmt: skip
def test_tasks_of_a_node_share_its_gpus(changes: dict[str, str], share: Any) -> None:
    found = from_environment({**FOUR_TASKS, **changes})
    assert found is not None
    assert found.environment.get("CUDA_VISIBLE_DEVICES") == share
