"""What a run's record says of the data that its weights come from."""

from typing import Any

import pytest

from bert_clinical.weights.provenance import data_sidecars

DATA = {
    name: {"name": name} for name in ("tf/a.tfrecord", "tf/b,[1].tfrecord", "held_out.tfrecord")
}


@pytest.mark.parametrize("flag", ["tf", "tf/", " tf/a.tfrecord , tf/b,[1].tfrecord", "tf/[ab]*"])
def test_what_was_only_evaluated_on_is_told_apart(flag: str) -> None:
    run = {"flags": {"input_file": flag}, "data": DATA, "training_files": list(DATA)[:2]}
    assert data_sidecars(run) == list(DATA.values())
    assert data_sidecars(run, training_only=True) == list(DATA.values())[:2]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"input_file": "tf/a*,tf/x"}, 1), ({"input_file": "held_out.tfrecord"}, 1), ({}, 3)],
)
def test_an_older_record_has_the_flag_alone(flags: dict[str, Any], expected: int) -> None:
    run = {"flags": flags, "data": {**DATA, "x": "no object"}}
    assert len(data_sidecars(run, training_only=True)) == expected
