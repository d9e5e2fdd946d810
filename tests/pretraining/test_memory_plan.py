"""The plan of memory: sums, direction of every setting, advice that holds, and what a GPU says."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.memory_plan import plan_lines, plan_memory, settings_that_fit
from bert_clinical.pretraining.options import TrainingOptions

BASE = BertConfig(28996, type_vocab_size=2)
RECIPE = TrainingOptions(num_train_steps=150000)


def test_the_recipe_fits_a_card_of_12_gb() -> None:
    plan = plan_memory(BASE, RECIPE)
    # 108.3 million of the encoder, and the heads' dense layer, LayerNorm and biases.
    assert plan.parameters == 108_932_934
    assert plan.slots == 2 * plan.weights == 2 * plan.gradients == 8 * plan.parameters
    assert 3e9 < plan.activations < 5e9
    assert plan.total < 12e9


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "mixed_bfloat16", "train_batch_size": 64},
        {"recompute_grad": True},
        {"gradient_accumulation_steps": 4},
        {"max_seq_length": 64},
        {"train_batch_size": 8},
    ],
)
def test_what_saves_memory_is_counted_so(changes: dict[str, Any]) -> None:
    before = dataclasses.replace(
        RECIPE, train_batch_size=changes.get("train_batch_size", 32)
        if "precision" in changes else 32,
    )  # fmt: skip
    after = dataclasses.replace(before, **changes)
    assert plan_memory(BASE, after).activations < plan_memory(BASE, before).activations


def test_advice_fits() -> None:
    big = dataclasses.replace(RECIPE, train_batch_size=256)
    choices = settings_that_fit(BASE, big, 12e9)
    assert any(choice.startswith("--gradient_accumulation_steps=") for choice in choices)
    for choice in choices:
        changes: dict[str, Any] = {}
        for flag in choice.replace("--", "").split():
            name, _, value = flag.partition("=")
            changes[name] = int(value) if value.isdigit() else value or True
        assert plan_memory(BASE, dataclasses.replace(big, **changes)).total <= 12e9
    assert settings_that_fit(BASE, RECIPE, 1e9) == []


def test_lines() -> None:
    data = {"records": 320_000, "padding": 0.148}
    fits = plan_lines(BASE, RECIPE, **data, device_bytes=12e9, device="a card")
    assert "Parameters: 108,932,934" in fits
    assert "Fits a card of 12.00 GB" in fits
    assert fits[-1].startswith("Data: 320,000 examples, 10,000 steps each pass")
    assert "15.00 passes" in fits[-1]
    assert any(line.startswith("Padding: 14.8% of the positions, left out") for line in fits)
    computing = dataclasses.replace(RECIPE, skip_padding=False)
    lines = plan_lines(BASE, computing, **data, device_bytes=12e9, device="a card")
    assert any(line.startswith("Padding: 14.8% of the positions, computed") for line in lines)
    small = plan_lines(BASE, RECIPE, records=1, padding=0.0, device_bytes=4e9, device="a card")
    assert "Does not fit a card of 4.00 GB" in small
    assert any(line.startswith("Would fit with: --") for line in small)


@pytest.mark.gpu
def test_a_gpu_needs_what_was_planned(tmp_path: Path) -> None:
    from bert_clinical.nn.tensorflow import tf

    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("there is no GPU on this machine")
    from tests.benchmarks.training_step import Size, ours, random_batch

    size = Size(12, 768, 32)
    step = ours(size, itertools.repeat(random_batch(size)), jit_compile=False)
    tf.config.experimental.reset_memory_stats("GPU:0")
    step()
    step()
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    assert abs(plan_memory(BASE, RECIPE).total / peak - 1) < 0.1
