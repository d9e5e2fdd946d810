"""Operations against the products that TensorFlow makes; rates, time left, and devices' peaks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.flops import training_flops
from bert_clinical.pretraining import devices, speed
from bert_clinical.pretraining.options import TrainingOptions
from tests.benchmarks.step_profile import flops_of_step
from tests.benchmarks.training_step import Size
from tests.golden_data import golden

CONFIG = BertConfig.from_json_file(golden("model/bert_config.json"))


@pytest.mark.parametrize("size", [Size(1, 64, 2), Size(3, 128, 3)])
def test_the_count_is_what_a_profile_counts(size: Size) -> None:
    counted, expected = flops_of_step(size)
    assert counted == pytest.approx(expected, rel=0.01)


def test_padding_does_not_count() -> None:
    mask = np.zeros((2, 3, 16), np.int32)
    mask[0, :, :4] = 1
    short = training_flops(CONFIG, mask[:1, :, :4], 2)
    assert training_flops(CONFIG, mask, 2)[0] == short[0]
    mask[1] = 1
    assert training_flops(CONFIG, mask, 2)[1] > short[0]


class Clock:
    """Seconds as a test sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_rates_leave_out_compiling_and_count_real_wordpieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    options = TrainingOptions(train_batch_size=2, num_train_steps=100)
    measured = speed.Speed(CONFIG, options, first_step=10, peak_flops=1e9)
    mask = np.zeros((1, 2, 128), np.int32)
    mask[:, :, :30] = 1
    clock.now = 50.0
    first = measured.of_call(10, mask)
    # Nothing else is known yet.
    assert measured.of(first, 11)["examples_per_second"] == pytest.approx(2 / 50)
    clock.now = 54.0
    second = measured.of_call(11, np.repeat(mask, 4, axis=0))
    rates = measured.of(np.concatenate([first, second]), 15)
    assert rates["examples_per_second"] == pytest.approx(2)
    assert rates["tokens_per_second"] == pytest.approx(60)
    flops = float(training_flops(CONFIG, mask, options.max_predictions_per_seq)[0])
    assert rates["mfu"] == pytest.approx(flops / 1e9)
    assert rates["seconds_left"] == pytest.approx(85)
    # An evaluation is no step, but the run takes longer for it.
    clock.now = 58.0
    measured.resume()
    clock.now = 62.0
    third = measured.of_call(15, np.repeat(mask, 4, axis=0))
    rates = measured.of(third, 19)
    assert rates["examples_per_second"] == pytest.approx(2)
    assert rates["seconds_left"] == pytest.approx(81 * 12 / 8)
    assert measured.overall(19)["tokens_per_second"] == pytest.approx(60)
    assert "of the peak" in speed.speed_text(rates)
    assert "2 min left" in speed.speed_text(rates)


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("NVIDIA H200", "mixed_bfloat16", 989),
        ("NVIDIA H100 PCIe", "float32", 378),
        ("NVIDIA H100 80GB HBM3", "float32", 494),
        ("NVIDIA A100-SXM4-80GB", "mixed_float16", 312),
        ("Tesla V100-SXM2-16GB", "float32", 15.7),
        ("NVIDIA A10G", "float32", 35),
        ("NVIDIA GeForce GTX 1080", "float32", None),
        ("", "float32", None),
    ],
)
def test_peaks(name: str, precision: str, teraflops: float | None) -> None:
    assert devices.peak_of(name, precision) == (teraflops and teraflops * 1e12)
