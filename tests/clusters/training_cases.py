"""run_pretraining on two nodes: the weights of one, and what befalls a link or a node.

python -m pytest tests/clusters/training_cases.py -n 0 -v
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bert_clinical.weights import checkpoint
from tests.clusters import nodes
from tests.clusters.nodes import Node
from tests.pretraining.training_workers import assert_same_weights, start
from tests.running import Process, assert_one_line_error, assert_success, finished, wait_until

_PORT = 4001

FLAGS = {"num_train_steps": 500, "num_warmup_steps": 50, "learning_rate": 1e-4}


@pytest.fixture(scope="module")
def two() -> Iterator[list[Node]]:
    reason = nodes.why_none()
    if reason is not None:
        pytest.skip(reason)
    with nodes.network(2) as network:
        yield network.nodes


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    assert_success(finished(start(folder, **FLAGS)))
    return folder


def start_nodes(two: list[Node], output_dir: Path, **changes: Any) -> list[Process]:
    cluster = {"worker": [f"{node.address}:{_PORT}" for node in two]}
    return [
        start(
            output_dir, before=node.command([]),
            tf_config=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
            **{**FLAGS, **changes},
        )
        for index, node in enumerate(two)
    ]  # fmt: skip


def test_500_steps_by_default_flags(two: list[Node], tmp_path: Path, single: Path) -> None:
    for worker in start_nodes(two, tmp_path):
        result = finished(worker)
        assert_success(result)
        print(result.stdout)
    assert_same_weights(tmp_path, single, tolerance=1e-4)


def test_a_link_that_is_cut_ends_both(two: list[Node], tmp_path: Path) -> None:
    workers = start_nodes(two, tmp_path, num_train_steps=1000000, save_checkpoints_steps=10)
    wait_until((tmp_path / "model.ckpt-20.index").exists, *workers)
    two[1].disconnect()
    begin = time.monotonic()
    try:
        for worker in workers:
            result = finished(worker)
            assert_one_line_error(
                result, 1, "another worker", "no answer", "go on from the last checkpoint"
            )
            print(f"{time.monotonic() - begin:.0f} s after the cut: {result.stderr}")
    finally:
        two[1].reconnect()
    assert checkpoint.latest_checkpoint(tmp_path) is not None


def test_a_node_that_dies_and_comes_again(two: list[Node], tmp_path: Path, single: Path) -> None:
    workers = start_nodes(two, tmp_path, save_checkpoints_steps=50)
    wait_until((tmp_path / "model.ckpt-100.index").exists, *workers)
    two[1].kill()
    finished(workers[1])
    result = finished(workers[0])
    # It may have made its last step just before.
    if result.returncode:
        assert_one_line_error(result, 1, "another worker", "no answer")
    print(result.stderr)
    for worker in start_nodes(two, tmp_path, save_checkpoints_steps=50):
        result = finished(worker)
        assert_success(result)
        print(result.stdout)
    assert_same_weights(tmp_path, single, tolerance=1e-4)
