"""Who the workers of TF_CONFIG are; waiting for them is told, and ends."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from bert_clinical.pretraining import worker_cluster
from bert_clinical.pretraining.worker_cluster import WorkerCluster, from_environment
from data_prep.common.errors import UserError
from tests.pretraining.training_workers import tf_configs
from tests.running import HANG_SECONDS, ROOT, assert_one_line_error

TWO = ["a:1", "b:2"]


def environment(cluster: Any, task: Any) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def two_workers(seconds: float) -> list[WorkerCluster]:
    found = [from_environment({"TF_CONFIG": text}, seconds) for text in tf_configs()]
    assert None not in found
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("values", "addresses", "index"),
    [
        (environment({"worker": TWO}, {"type": "worker", "index": 1}), ("a:1", "b:2"), 1),
        (
            environment({"worker": TWO, "chief": ["c:3"]}, {"type": "worker", "index": 0}),
            ("c:3", "a:1", "b:2"), 1,
        ),
        (
            environment({"worker": ["a:1"], "chief": ["c:3"]}, {"type": "chief", "index": 0}),
            ("c:3", "a:1"), 0,
        ),
        (environment({"worker": ["[::1]:9", "b:2"]}, {"type": "worker", "index": 0}),
         ("[::1]:9", "b:2"), 0),
    ],
)  # fmt: skip
def test_the_chief_comes_first(values: Any, addresses: tuple[str, ...], index: int) -> None:
    cluster = from_environment(values)
    assert cluster is not None
    assert (cluster.addresses, cluster.index) == (addresses, index)


@pytest.mark.parametrize(
    "values",
    [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, environment({"worker": ["a:1"]}, {})],
)
def test_one_worker_is_a_process_alone(values: dict[str, str]) -> None:
    assert from_environment(values) is None


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ({"TF_CONFIG": "[not json"}, "not a JSON object"),
        ({"TF_CONFIG": "[1]"}, "not a JSON object"),
        (environment({"worker": 3}, {}), "not a JSON object"),
        (environment({"worker": TWO, "ps": ["p:1"]}, {}), "'ps'"),
        (environment({"worker": TWO}, {"type": "worker", "index": 2}), "none of the 2 workers"),
        (environment({"worker": TWO}, {"type": "worker", "index": "0"}), "none of the 2 workers"),
        (environment({"worker": TWO}, {"type": "chief", "index": 0}), "none of the 2 workers"),
        (environment({"worker": TWO}, {}), "none of the 2 workers"),
        (environment({"worker": ["a", "b:2"]}, {"type": "worker", "index": 0}), "'a'; expected HO"),
    ],
)
def test_mistakes_in_tf_config(values: dict[str, str], fragment: str) -> None:
    with pytest.raises(UserError, match="TF_CONFIG") as raised:
        from_environment(values)
    assert fragment in str(raised.value)


def test_all_that_come_find_each_other_whoever_is_first() -> None:
    """Each stops listening when it has seen the others, as TensorFlow then listens there."""
    clusters = two_workers(HANG_SECONDS)
    late = threading.Thread(target=clusters[1].await_all)
    listening = clusters[0]._listener()
    with listening:
        late.start()
        late.join(HANG_SECONDS)
    assert not late.is_alive()


def test_who_is_missing_is_told_and_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_cluster, "_SECONDS_BETWEEN_LINES", 0.2)
    (cluster, _) = two_workers(1.5)
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(UserError, match="not all workers of TF_CONFIG came") as raised,
    ):
        cluster.await_all()
    missing = cluster.name(1)
    assert "within 1.5 s" in str(raised.value)
    assert f"missing: {missing};" in str(raised.value)
    first, *others = (record.getMessage() for record in caplog.records)
    assert first == (
        f"{cluster.name(0)} of TF_CONFIG; the chief, which writes checkpoints and logs; "
        f"waits for {missing}"
    )
    assert f"Waiting for {missing}; " in others[0]
    assert len(others) > 1


def test_a_port_that_is_taken_is_named() -> None:
    cluster = two_workers(5)[0]
    port = int(cluster.addresses[0].rpartition(":")[2])
    with (
        socket.create_server(("", port)),
        pytest.raises(UserError, match="cannot listen at its port"),
    ):
        cluster.await_all()


def test_a_block_that_takes_too_long_ends_the_process_and_says_who_answers() -> None:
    code = (
        "import threading\n"
        "from bert_clinical.pretraining import worker_cluster as w\n"
        "w._LEAST_SECONDS_WITHOUT_A_STEP = 0.5\n"
        "w._SECONDS_TO_ANSWER = 1.0\n"
        "cluster = w.WorkerCluster(('localhost:1', 'localhost:2'), 0)\n"
        "with cluster.ended_if_stalled(6, 0.001): pass\n"
        "with cluster.ended_if_stalled(7, 0.001): threading.Event().wait()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        timeout=HANG_SECONDS,
    )  # fmt: skip
    assert_one_line_error(
        result, 1, "after step 7", "worker 1 (localhost:2) of 2 workers: no answer",
        "from the last checkpoint",
    )  # fmt: skip
