"""Entities and their scores, against seqeval's answers."""

from __future__ import annotations

import json

import pytest

from bert_clinical.tasks.scores import Score, entities, entity_scores, table_of_scores
from tests.golden_data import golden

CASES = json.loads(golden("entity_scores/seqeval.json").read_text())["cases"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", set()),
        ("O O", set()),
        ("B-a", {("a", 0, 0)}),
        ("B-a I-a O I-a", {("a", 0, 1), ("a", 3, 3)}),
        ("B-a B-a I-a", {("a", 0, 0), ("a", 1, 2)}),
        ("I-a I-b B-b", {("a", 0, 0), ("b", 1, 1), ("b", 2, 2)}),
        ("B I O B", {("", 0, 1), ("", 3, 3)}),
        ("B-LOCATION-OTHER I-LOCATION-OTHER", {("LOCATION-OTHER", 0, 1)}),
    ],
)
def test_entities(labels: str, expected: set) -> None:
    assert entities(labels.split()) == expected


def test_scores_are_seqevals() -> None:
    assert len(CASES) == 60
    for case in CASES:
        overall, by_type = entity_scores(case["true"], case["predicted"])
        assert overall.precision == pytest.approx(case["precision"], abs=1e-12)
        assert overall.recall == pytest.approx(case["recall"], abs=1e-12)
        assert overall.f1 == pytest.approx(case["f1"], abs=1e-12)
        found = {kind or "_": [s.precision, s.recall, s.f1, s.true] for kind, s in by_type.items()}
        assert found.keys() == case["by_type"].keys()
        for kind, numbers in case["by_type"].items():
            assert found[kind] == pytest.approx(numbers, abs=1e-12)


def test_scores_of_nothing_are_zero() -> None:
    score = Score(correct=0, predicted=0, true=0)
    assert (score.precision, score.recall, score.f1) == (0.0, 0.0, 0.0)
    assert entity_scores([["O"]], [["O"]]) == (score, {})


def test_sentences_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        entity_scores([["O"], ["O"]], [["O"]])


def test_table_has_a_line_for_each_score() -> None:
    lines = table_of_scores("entity", {"problem": Score(1, 2, 4), "all": Score(1, 2, 4)})
    assert len(lines) == 3
    assert lines[1].split() == ["problem", "0.5000", "0.2500", "0.3333", "4"]
