"""Some damaged files of every kind; `python -m tests.damaged` tries thousands."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bert_clinical.nn.config import BertConfig
from data_prep.common.errors import UserError
from data_prep.common.json_files import ANY_NAME, parse_json_object, require_shape
from tests.damaged.formats import FORMATS, Format
from tests.damaged.mutations import damaged, damaged_json
from tests.damaged.trial import run_trial

_MUTATIONS = 60


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_damaged_files_are_read_right_or_refused(kind: Format) -> None:
    trial = run_trial(kind, _MUTATIONS, seed=2)
    assert trial.faults == []
    assert trial.outcomes.total() == _MUTATIONS // kind.cost
    assert trial.outcomes["refused"] or kind.name in ("index of TFRecords", "work shard")


def test_the_same_seed_damages_alike() -> None:
    content = json.dumps({"a": [1, {"b": "c"}], "d": None}).encode()
    for change in (damaged, damaged_json):
        one, other = (
            [change(content, rng) for _ in range(50)]
            for rng in (random.Random(1), random.Random(1))
        )
        assert one == other
        assert len(set(one)) > 20


def test_a_trial_finds_what_is_met_badly(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "a.json").write_text('{"a": 1}')

    def read(folder: Path) -> object:
        return json.loads((folder / "a.json").read_text())["a"]

    trial = run_trial(Format("naive", "a.json", make, read, damaged_json), 50, seed=1)
    assert any("KeyError" in fault for fault in trial.faults)
    assert any("UnicodeDecodeError" in fault or "JSONDecode" in fault for fault in trial.faults)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": ' + "9" * 10_000 + "}", "broken JSON"),
        ('{"a": ' + "[" * 100_000, "JSON nested too deeply"),
        (r'{"a": "\ud800"}', "broken JSON"),
        ('{"a": 1', "broken JSON at line 1, column 8"),
        ('{"size": "x"}', "size is a string, expected a whole number"),
        ('{"size": true}', "size is true or false, expected a whole number"),
        ('{"size": 1e3}', "size is a number, expected a whole number"),
        ('{"size": 9223372036854775808}', "size is a number of more than 64 bits"),
        ('{"part": []}', "part is a list, expected an object"),
        (
            '{"part": {"Ellwood": 1}}',
            r"part\.a member is a whole number, expected a string",
        ),
        ('{"many": {}}', "many is an object, expected a list"),
        ('{"many": [1, null]}', "an element of many is null, expected a number"),
    ],
)
def test_json_of_another_shape_is_refused(text: str, fault: str) -> None:
    shape = {"size": int, "part": {ANY_NAME: (str, type(None))}, "many": [float]}
    with pytest.raises(UserError, match=rf"^x\.json: {fault}.*; make it again$"):
        value = parse_json_object(text.encode(), "x.json", advice="make it again")
        require_shape(value, shape, "x.json", advice="make it again")


def test_json_of_the_shape_is_taken() -> None:
    value = {"size": 3, "part": {"x": None, "y": ""}, "many": [1, 0.5], "other": [[]]}
    require_shape(value, {"size": int, "part": {ANY_NAME: (str, type(None))}, "many": [float]}, "x")
    # What transformers writes where there is no limit.
    assert parse_json_object(b'{"a": 1000000000000000019884624838656}', "x")["a"] > 1e29


def test_a_config_is_no_place_for_names_of_its_own_class(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"vocab_size": 5, "validate": 1}')
    with pytest.raises(UserError, match=r"c\.json: has a member that no bert_config\.json has"):
        BertConfig.from_json_file(tmp_path / "c.json")
