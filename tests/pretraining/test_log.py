"""What a run's log does where it cannot be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.log import TrainingLog
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.speed import Speed
from bert_clinical.pretraining.step import METRICS
from data_prep.common.errors import UserError
from tests.full_disk import files_up_to
from tests.golden_data import golden


@pytest.mark.parametrize(
    ("size_bytes", "name", "error"),
    [(50, "training_log.jsonl", OSError), (800, "tensorboard", UserError)],
)
def test_a_full_disk_names_the_file(
    tmp_path: Path, size_bytes: int, name: str, error: type[Exception]
) -> None:
    options = TrainingOptions(train_batch_size=2, num_train_steps=3, log_every=1)
    speed = Speed(
        BertConfig.from_json_file(golden("model/bert_config.json")), options, first_step=0,
        peak_flops=None,
    )  # fmt: skip
    with (
        TrainingLog(tmp_path, options=options, first_step=0, speed=speed) as log,
        pytest.raises(error) as failure,
        files_up_to(size_bytes),
    ):
        rows = np.zeros((1, len(METRICS)), np.float32)
        log.steps(0, rows, speed.of_call(0, np.ones((1, 2, 128), np.int32)))
        log.saved(1, "model.ckpt-1", at_end=False)
    told = f"{getattr(failure.value, 'filename', '')} {failure.value}"
    assert str(tmp_path / name) in told
    assert "File too large" in told
