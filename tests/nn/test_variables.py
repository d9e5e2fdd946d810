"""What the names in checkpoints mean."""

import pytest

from bert_clinical.nn.variables import is_step_like, slot_owner


@pytest.mark.parametrize(
    "name",
    [
        "global_step",
        "beta1_power",
        "bert/pooler/beta2_power",
        # Ours, TensorFlow's and NVIDIA's of mixed precision.
        "loss_scale",
        "loss_scale_good_steps",
        "current_loss_scale",
        "good_steps",
        "num_good_steps",
        "num_bad_steps",
        "optimizer/current_loss_scale",
    ],
)
def test_counters_and_scales_are_no_weights(name):
    assert is_step_like(name)
    assert slot_owner(name) is None


@pytest.mark.parametrize("name", ["bert/pooler/dense/bias", "loss_scale/kernel", "my_steps", "x"])
def test_others_are_not_left_out(name):
    assert not is_step_like(name)
