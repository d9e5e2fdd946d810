"""What workers tell each other comes to all of them, failures too."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.worker_agreement import WorkerAgreement
from bert_clinical.pretraining.worker_cluster import WorkerCluster
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


class Room:
    """Where two workers meet, of whom the second fetches what the first gives as late as can be."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._given: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
        self._has_left = False

    def worker(self, index: int, block: Callable[[WorkerAgreement], None]) -> str:
        """Does what a worker does, and returns how it ends."""
        agreement = WorkerAgreement(WorkerCluster(("a:1", "b:2"), index))
        agreement._gather = lambda values: self._gather(agreement, index, values)  # type: ignore
        try:
            block(agreement)
        except (UserError, tf.errors.OpError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            if index == 0:
                with self._changed:
                    self._has_left = True
                    self._changed.notify_all()
        return "well"

    def _gather(self, agreement: WorkerAgreement, index: int, values: np.ndarray) -> np.ndarray:
        with self._changed:
            meeting = agreement._gathered = agreement._gathered + 1
            self._given[meeting][index] = values
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._given[meeting]) == 2 or self._has_left)
            if index == 1:
                self._changed.wait_for(lambda: meeting + 1 in self._given or self._has_left)
            if index == 1 and self._has_left:
                raise tf.errors.UnavailableError(None, None, "the first has left")
            return np.concatenate([self._given[meeting][0], self._given[meeting][1]])


def differ(agreement: WorkerAgreement) -> None:
    agreement.require_same({"--a": agreement.cluster and agreement.cluster.index})


def first_fails(agreement: WorkerAgreement) -> None:
    with agreement.together():
        if agreement.is_chief:
            raise UserError("the disk is full")


def second_fails(agreement: WorkerAgreement) -> None:
    with agreement.together():
        if not agreement.is_chief:
            raise UserError("the disk is full")


def end_well(agreement: WorkerAgreement) -> None:
    assert agreement.of_chief("done") == "done"
    agreement.part()


@pytest.mark.parametrize(
    ("block", "first", "second"),
    [
        (differ, "--a is 0 at worker 0 (a:1) and 1", "--a is 0 at worker 0 (a:1) and 1"),
        (first_fails, "UserError: the disk is full", "worker 0 (a:1) ended the run: the disk is"),
        (second_fails, "worker 1 (b:2) ended the run: the disk", "UserError: the disk is full"),
        (end_well, "well", "well"),
    ],
)
def test_nobody_ends_before_all_have_heard(
    block: Callable[[WorkerAgreement], None], first: str, second: str
) -> None:
    room = Room()
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda index: room.worker(index, block), range(2)))
    assert first in ends[0]
    assert second in ends[1]


def test_a_process_alone_meets_nobody() -> None:
    alone = WorkerAgreement()
    assert alone.is_chief
    assert not alone.has_others
    assert alone.share([1]) == [[1]]
    assert alone.of_chief(3) == 3
    alone.require_same({"--a": 1})
    alone.part()
    with alone.together():
        pass
    with pytest.raises(UserError, match="own"), alone.together():
        raise UserError("own")
