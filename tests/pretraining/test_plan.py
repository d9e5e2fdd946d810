"""What `--plan` says of a run's time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bert_clinical.pretraining import devices
from bert_clinical.pretraining.plan import plan
from tests.pretraining.test_loop import changed, config, load


def test_the_time_is_that_of_what_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "peak_flops", lambda precision: 1e8)
    data = load("cased_128.tfrecord", tmp_path)
    padding = 1 - float(data.sample_lengths().mean()) / 128
    assert padding > 0.1
    said = []
    for skip_padding in (True, False):
        options = changed(num_train_steps=1_000_000, skip_padding=skip_padding)
        *_, last = plan(config(), options, data, device_memory=(1e9, "x"), measure=False)
        said.append(last)
    days = [re.match(r"Time: (\d+) d (\d+) h about, if 40% of the device's peak", x) for x in said]
    one, other = (int(found[1]) + int(found[2]) / 24 for found in days if found)
    assert 0.5 < one / other < 1 - padding / 2
