"""What workers tell each other comes to all of them, failures too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bert_clinical.pretraining.worker_agreement import WorkerAgreement
from data_prep.common.errors import UserError
from tests.pretraining.training_workers import start_worker_code
from tests.running import assert_success, finished

# Every worker prints what it heard as a line of JSON.
MEETINGS = """
import errno, json, os
from bert_clinical.pretraining import devices, worker_cluster
from bert_clinical.pretraining.worker_agreement import WorkerAgreement

cluster = worker_cluster.from_environment(os.environ)
devices.strategy(cluster)
agreement = WorkerAgreement(cluster)
me = cluster.index
heard = {"shared": [agreement.share(value[me]) for value in (
    [0, 1], [None, {"long": "µ" * 3000}], [["a", 2.5], []], ["", "x"])]}
heard["chief"] = agreement.of_chief(f"of {me}")

def attempt(block):
    try:
        with agreement.together():
            block()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "well"

def fail(error):
    raise error

def fail_at(worker, error):
    return attempt(lambda: fail(error) if worker == me else None)

heard["well"] = attempt(lambda: None)
heard["one"] = fail_at(1, worker_cluster.UserError("the\\ndisk is full"))
heard["system"] = fail_at(0, OSError(errno.ENOSPC, "No space left", "/data"))
heard["unforeseen"] = fail_at(1, KeyError("Xylophonectomy"))
heard["both"] = attempt(lambda: fail(worker_cluster.UserError(f"no {me}")))

def same(*values):
    try:
        agreement.require_same(values[me])
    except Exception as error:
        return str(error)
    return "well"

heard["same"] = same({"a": 1, "b": None}, {"a": 1, "b": None})
heard["other"] = same({"--a": 1, "--b": 2, "--c": 3}, {"--a": 1, "--b": 5, "--c": None})
heard["absent"] = same({"--a": 1}, {"--a": 1, "--b": 2})
print(json.dumps(heard))
"""


@pytest.fixture(scope="module")
def heard() -> list[dict[str, Any]]:
    workers = start_worker_code(MEETINGS)
    results = [finished(worker) for worker in workers]
    for result in results:
        assert_success(result)
    return [json.loads(result.stdout) for result in results]


def addresses(heard: dict[str, Any]) -> tuple[str, str]:
    """Returns the workers' names, which one message at least holds both of."""
    words = heard["other"].split(" at ")
    return words[1].split(" and ")[0], words[2].split(";")[0]


@pytest.mark.slow
def test_everyone_hears_what_each_gave(heard: list[dict[str, Any]]) -> None:
    for of_worker in heard:
        assert of_worker["shared"] == [
            [0, 1], [None, {"long": "µ" * 3000}], [["a", 2.5], []], ["", "x"]
        ]  # fmt: skip
        assert of_worker["chief"] == "of 0"


@pytest.mark.slow
def test_a_failure_of_one_ends_all(heard: list[dict[str, Any]]) -> None:
    chief, second = heard
    names = addresses(chief)
    assert [of_worker["well"] for of_worker in heard] == ["well", "well"]
    assert second["one"] == "UserError: the\ndisk is full"
    assert chief["one"] == f"UserError: {names[1]} ended the run: the disk is full"
    assert "No space left" in chief["system"]
    assert second["system"].startswith(f"UserError: {names[0]} ended the run: /data: No space left")
    assert second["unforeseen"] == "KeyError: 'Xylophonectomy'"
    assert chief["unforeseen"].startswith(f"UserError: {names[1]} ended the run: unexpected KeyErr")
    assert "Xylophonectomy" not in json.dumps(chief)
    assert [of_worker["both"] for of_worker in heard] == ["UserError: no 0", "UserError: no 1"]


@pytest.mark.slow
def test_differences_are_named_with_both_values(heard: list[dict[str, Any]]) -> None:
    chief, second = heard
    names = addresses(chief)
    assert chief["same"] == second["same"] == "well"
    assert chief["other"] == second["other"]
    assert f"--b is 2 at {names[0]} and 5 at {names[1]}" in chief["other"]
    assert f"--c is 3 at {names[0]} and None at {names[1]}" in chief["other"]
    assert "--a" not in chief["other"]
    assert f"--b is None at {names[0]} and 2 at {names[1]}" in chief["absent"]


def test_a_process_alone_meets_nobody() -> None:
    alone = WorkerAgreement()
    assert alone.is_chief
    assert not alone.has_others
    assert alone.share([1]) == [[1]]
    assert alone.of_chief(3) == 3
    alone.require_same({"--a": 1})
    with alone.together():
        pass
    with pytest.raises(UserError, match="own"), alone.together():
        raise UserError("own")
