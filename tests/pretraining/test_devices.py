"""Several devices of one process give the weights of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_clinical.pretraining import devices
from bert_clinical.pretraining.options import TrainingOptions
from data_prep.common.errors import UserError
from tests.pretraining.training_workers import assert_same_weights, program_with, start
from tests.running import assert_success, finished

# A process of its own: the CPU can be divided only before TensorFlow has used it.
TWO_CPUS = """
from bert_clinical.nn.tensorflow import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from bert_clinical.pretraining import devices
devices.strategy = lambda cluster: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""


@pytest.mark.slow
def test_two_devices_that_take_their_shares_in_parts_are_as_one(tmp_path: Path) -> None:
    one = start(tmp_path / "one")
    two = start(tmp_path / "two", program_with(TWO_CPUS), gradient_accumulation_steps=2)
    for process in (one, two):
        assert_success(finished(process))
    assert_same_weights(tmp_path / "two", tmp_path / "one")


def test_batches_must_be_divisible() -> None:
    class Three:
        num_replicas_in_sync = 3

    devices.require_equal_shares(None, TrainingOptions(train_batch_size=7))
    devices.require_equal_shares(Three(), TrainingOptions(train_batch_size=9))
    with pytest.raises(UserError, match="multiple of 6"):
        options = TrainingOptions(train_batch_size=9, gradient_accumulation_steps=2)
        devices.require_equal_shares(Three(), options)
