"""What a run's folder says of its settings, and what records of earlier versions do not say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.settings import (
    SETTINGS_FILE,
    decisive_settings,
    require_same_settings,
    write_settings,
)
from data_prep.common.errors import UserError

OPTIONS = TrainingOptions(num_train_steps=100, num_warmup_steps=10)
STEP = 50
NEW = ("learning_rate_schedule", "decay_steps", "skip_padding", "dropout_mask_bits")
"""What the first version's records do not hold."""


def settings(dropout: float = 0.1, **changes: Any) -> dict[str, Any]:
    config = BertConfig(37, hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0)
    return decisive_settings(dataclasses.replace(OPTIONS, **changes), config, [])


def go_on(folder: Path, record: dict[str, Any], now: dict[str, Any]) -> str:
    """Returns what stands against going on with a run of that record; "" for nothing."""
    write_settings(folder, record)
    try:
        require_same_settings(folder, now, STEP)
    except UserError as error:
        return str(error)
    return ""


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


def test_every_setting_that_decides_is_recorded_and_compared(tmp_path: Path) -> None:
    now = settings()
    assert go_on(tmp_path, now, now) == ""
    for name in set(now) - set(NEW):
        found = go_on(tmp_path, without(now, name), now)
        assert f"--{name} was not recorded, now " in found
        assert "\n" not in found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "--skip_padding was False, now True; give the former ones"),
        ({"skip_padding": False}, ""),
        (
            {"skip_padding": False, "learning_rate_schedule": "constant"},
            "--learning_rate_schedule was linear, now constant",
        ),
        ({"skip_padding": False, "decay_steps": 7}, "--decay_steps was 0, now 7"),
    ],
)
def test_an_earlier_version_without_the_flag_did_what_it_alone_knew(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    now = settings(dropout=0.0, **changes)
    found = go_on(tmp_path, without(settings(dropout=0.0), *NEW), now)
    assert (expected in found) if expected else (found == "")


def test_masks_that_are_drawn_no_more_are_told(tmp_path: Path) -> None:
    earlier = without(settings(), *NEW)
    for skip_padding in (True, False):
        found = go_on(tmp_path, earlier, settings(skip_padding=skip_padding))
        assert "dropout masks only the earlier version that began it draws" in found
        assert ("--skip_padding was False, now True" in found) == skip_padding
        assert "--allow_flag_changes" in found
        assert "dropout_mask_bits" not in found
    # 16 bits came before they were recorded, and with `skip_padding`.
    assert go_on(tmp_path, without(settings(), "dropout_mask_bits"), settings()) == ""


def test_a_missing_record_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    require_same_settings(tmp_path, settings(), STEP)
    assert f"{tmp_path / SETTINGS_FILE} is missing" in caplog.text
