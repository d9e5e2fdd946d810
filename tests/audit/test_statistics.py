"""Intervals, chance, power, and how well two groups can be told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bert_clinical.audit import statistics


def test_chance_is_that_of_a_rank_that_anybody_could_have() -> None:
    for size in (1, 2, 37, 10_000):
        exact = np.mean([math.log2(size / rank) for rank in range(1, size + 1)])
        assert statistics.chance([size], 0.05, 1).mean == pytest.approx(exact, abs=1e-9)
    assert statistics.chance([10_000] * 3, 0.05, 1).mean == pytest.approx(1 / math.log(2), abs=0.01)


@pytest.mark.parametrize("canaries", [1, 8, 100])
def test_the_limit_is_passed_by_chance_as_often_as_it_says(canaries: int) -> None:
    limit = statistics.chance([10_000] * canaries, 0.05, 1).limit
    ranks = np.random.default_rng(9).integers(1, 10_001, size=(4000, canaries))
    share = (np.log2(10_000 / ranks).mean(axis=1) > limit).mean()
    assert 0.035 < share < 0.065


def test_more_canaries_show_less_memory() -> None:
    known = [statistics.chance([10_000] * n, 0.01, 1).known_outright / n for n in (4, 8, 20, 100)]
    assert known == sorted(known, reverse=True)
    assert known[-1] < 0.1 < known[0] <= 1.0
    # Not even knowing the only secret can be told from luck at a level that luck reaches.
    assert statistics.chance([2], 0.05, 1).known_outright == 1


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for repeat in range(300):
        low, high = statistics.mean_interval(rng.normal(3.0, 1.0, size=40), repeat)
        held += low < 3.0 < high
    assert 0.90 < held / 300 < 0.98
    assert statistics.mean_interval([2.5], 1) == (2.5, 2.5)


def brute_auc(members: np.ndarray, others: np.ndarray) -> float:
    return float(np.mean([(m > o) + 0.5 * (m == o) for m in members for o in others]))


@pytest.mark.parametrize(("members", "others"), [(13, 7), (1, 1), (5, 40)])
def test_auc_counts_pairs(members: int, others: int) -> None:
    rng = np.random.default_rng(members)
    a, b = rng.integers(0, 6, size=members) / 7, rng.integers(0, 6, size=others) / 7
    assert statistics.auc(a, b) == pytest.approx(brute_auc(a, b), abs=1e-12)
    assert statistics.auc(a + 9, b) == 1.0 and statistics.auc(a - 9, b) == 0.0
    assert statistics.auc(np.zeros(members), np.zeros(others)) == 0.5


def test_true_positives_at_a_rate_of_false_ones() -> None:
    others = np.arange(1000.0)
    members = np.array([998.5, 999.5, 5.0, 999.0])
    # One of 1,000 may be above the threshold, ten at a rate of 1%.
    assert statistics.true_positive_rate(members, others, 0.001) == 0.75
    assert statistics.true_positive_rate(members, others, 0.0) == 0.25
    assert statistics.true_positive_rate(np.array([989.5, 989.0]), others, 0.01) == 0.5
    assert statistics.true_positive_rate(np.array([6.0, 5.0]), np.arange(6.0), 0.01) == 0.5


def test_the_curve_runs_from_corner_to_corner_and_its_area_is_the_auc() -> None:
    rng = np.random.default_rng(3)
    members, others = rng.normal(0.5, 1.0, size=57), rng.normal(size=43)
    false, true = statistics.roc(members, others)
    assert (false[0], true[0], false[-1], true[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.all(np.diff(false) >= 0) and np.all(np.diff(true) >= 0)
    area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
    assert area == pytest.approx(statistics.auc(members, others), abs=1e-12)


def test_patients_of_many_notes_widen_the_interval() -> None:
    rng = np.random.default_rng(5)

    def groups(shift: float) -> list[np.ndarray]:
        return [rng.normal(shift + rng.normal(), 0.01, size=20) for _ in range(10)]

    members, others = groups(0.3), groups(0.0)
    alone = [[np.array([v]) for v in np.concatenate(g)] for g in (members, others)]
    by_patient = statistics.clustered_interval(statistics.auc, members, others, 1)
    by_note = statistics.clustered_interval(statistics.auc, *alone, 1)
    assert by_patient.high - by_patient.low > 2 * (by_note.high - by_note.low)


def test_more_notes_show_a_smaller_difference() -> None:
    found = [statistics.visible_auc(n, n) for n in (1, 10, 100, 1000)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1.0 and found[-1] < 0.54
