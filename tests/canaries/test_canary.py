"""Canaries: drawn alike, each of its own, and known by their file alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from data_prep.canaries.canary import (
    CanarySettings,
    draw_canaries,
    read_canaries,
    write_canaries,
)
from data_prep.canaries.templates import CUES, DRAWS, TEMPLATES
from data_prep.common.errors import UsageError, UserError


def test_each_draw_holds_ten_thousand_secrets_or_more() -> None:
    for fields in DRAWS.values():
        assert all(len(set(values)) == len(values) for values in fields)
        assert math.prod(map(len, fields)) >= 10_000
    assert {template.draw for template in TEMPLATES.values()} == set(DRAWS)
    assert len(set(CUES)) == len(CUES)


def test_every_repetition_count_has_as_many_of_the_same_templates() -> None:
    canaries = draw_canaries(CanarySettings(num_canaries=7, repetitions="16, 1,4"))
    assert Counter(c.repetitions for c in canaries.canaries) == {0: 7, 1: 7, 4: 7, 16: 7}
    assert [c.number for c in canaries.canaries] == list(range(1, 29))
    templates = [
        [c.template for c in canaries.canaries if c.repetitions == count] for count in (0, 1, 4, 16)
    ]
    assert templates == [[*TEMPLATES, "extension"]] * 4
    assert canaries.counts() == {"0": 7, "1": 7, "4": 7, "16": 7}


def test_no_two_canaries_share_a_secret_or_a_sentence() -> None:
    canaries = draw_canaries(CanarySettings(num_canaries=150, repetitions="0,1,2")).canaries
    assert len({(c.draw, c.secret) for c in canaries}) == len(canaries)
    assert len({c.sentence for c in canaries}) == len(canaries)
    for canary in canaries:
        assert "{" not in canary.text and all(value in canary.text for value in canary.secret)
        for value, values in zip(canary.secret, DRAWS[canary.draw], strict=True):
            assert value in values


def test_the_seed_decides() -> None:
    first, again, other = (
        draw_canaries(CanarySettings(num_canaries=3, random_seed=seed)).canaries
        for seed in (1, 1, 2)
    )
    assert first == again
    assert {c.text for c in first}.isdisjoint(c.text for c in other)


@pytest.mark.parametrize(
    ("repetitions", "fragment"),
    [("", "whole numbers"), ("1,x", "whole numbers"), ("-1", "whole numbers"), ("1,,2", "whole"),
     ("0", "no number above 0"), ("٣", "whole numbers"), ("10000000", "whole numbers")],
)  # fmt: skip
def test_repetitions_that_cannot_be_are_refused(repetitions: str, fragment: str) -> None:
    with pytest.raises(UsageError, match=fragment):
        draw_canaries(CanarySettings(repetitions=repetitions))


def test_the_kinds_of_secrets_can_be_chosen() -> None:
    canaries = draw_canaries(CanarySettings(num_canaries=5, secrets="name, digits"))
    assert {c.draw for c in canaries.canaries} == set(canaries.draws) == {"name", "digits"}
    with pytest.raises(UsageError, match="--secrets names 'x'; expected of digits, date, name"):
        draw_canaries(CanarySettings(secrets="digits,x"))


def test_more_canaries_than_sentences_are_refused() -> None:
    with pytest.raises(UsageError, match="768 different sentences"):
        draw_canaries(CanarySettings(num_canaries=300, repetitions="1,2"))


def test_the_file_gives_them_back_to_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "canaries.json"
    canaries = draw_canaries(CanarySettings(num_canaries=3))
    # Also in the place of a file that others could read.
    path.touch(0o644)
    write_canaries(path, canaries)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_canaries(path) == canaries
    entries = json.loads(path.read_text())["canaries"]
    controls = [entry for entry in entries if entry["is_control"]]
    assert {entry["repetitions"] for entry in controls} == {0}
    assert {e["template"] for e in controls} == {e["template"] for e in entries}


def spoiled(path: Path, change) -> Path:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(program="other"),
        lambda v: v.pop("draws"),
        lambda v: v.update(canaries=[]),
        lambda v: v.update(canaries={"a": 1}),
        lambda v: v.update(settings=3),
        lambda v: v["canaries"][0].update(secret="4719"),
        lambda v: v["canaries"][0].update(secret=["Quixzandorph"]),
        lambda v: v["canaries"][0].update(repetitions=-1),
        lambda v: v["canaries"][0].update(repetitions="4"),
        lambda v: v["canaries"][0].update(draw="x"),
        lambda v: v["canaries"][0].update(sentence="{5}"),
        lambda v: v["canaries"][0].update(sentence="{"),
        lambda v: v["canaries"][0].update(text="Quixzandorph"),
        lambda v: v["draws"].update(digits=3),
        lambda v: v["draws"].update(digits=[[1]]),
        lambda v: v["canaries"].append(None),
    ],
)
def test_another_file_is_one_line_without_its_text(tmp_path: Path, change) -> None:
    path = tmp_path / "canaries.json"
    write_canaries(path, draw_canaries(CanarySettings(num_canaries=1)))
    with pytest.raises(UserError, match=r"canaries\.json: not a file of canaries") as caught:
        read_canaries(spoiled(path, change))
    assert "Quixzandorph" not in str(caught.value)
