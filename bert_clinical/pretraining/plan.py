"""What a run would take, in memory and in time, before it is made."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.flops import training_flops
from bert_clinical.nn.precision import compute_dtype
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import devices
from bert_clinical.pretraining.batches import Batches, PretrainingData
from bert_clinical.pretraining.evaluation import model_of
from bert_clinical.pretraining.loop import training_step
from bert_clinical.pretraining.memory_plan import plan_lines
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.speed import Speed, speed_text
from bert_clinical.pretraining.state import new_state
from data_prep.common.progress import format_seconds

_SHARE_OF_PEAK = 0.4
"""What a run reaches of a GPU's peak, about."""

_SECONDS_OF_PRODUCTS = 0.5
_MEASURED_STEPS, _MEASURED_SECONDS = 3, 10.0
"""At least so many steps, and so long."""

_SAMPLED_STEPS = 4


def plan(
    config: BertConfig,
    options: TrainingOptions,
    data: PretrainingData,
    *,
    device_memory: tuple[float, str],
    measure: bool,
) -> Iterator[str]:
    """Yields the lines of `--plan`.

    Args:
      config: the model.
      options: the settings.
      data: the examples.
      device_memory: bytes to fit, and what to call them.
      measure: make a few steps from random weights.
    """
    padding = 1 - float(data.sample_lengths().mean()) / options.max_seq_length
    yield from plan_lines(
        config, options, records=data.records, padding=padding, device_bytes=device_memory[0],
        device=device_memory[1],
    )  # fmt: skip
    yield _measured(config, options, data) if measure else _estimated(config, options, data)


def _estimated(config: BertConfig, options: TrainingOptions, data: PretrainingData) -> str:
    """Returns the time that the products of all steps take at what the device can do."""
    with Batches(data, batch_size=options.train_batch_size, seed=options.random_seed) as batches:
        masks = batches.take(_SAMPLED_STEPS)["input_mask"]
    if not options.skip_padding:
        masks = np.ones_like(masks)
    flops = float(training_flops(config, masks, options.max_predictions_per_seq).mean())
    peak = devices.peak_flops(options.precision)
    if peak is not None:
        seconds = flops / (_SHARE_OF_PEAK * peak)
        how = f"about, if {_SHARE_OF_PEAK:.0%} of the device's peak is reached"
    else:
        seconds = flops / _flops_of_products(config, options)
        how = "or more, which the products of matrices take alone"
    whole = format_seconds(seconds * options.num_train_steps)
    return f"Time: {whole} {how}; --measure makes a few steps and says more"


def _flops_of_products(config: BertConfig, options: TrainingOptions) -> float:
    """Returns the operations a second of the model's largest product on this device."""
    dtype = compute_dtype(options.precision)
    rows = options.train_batch_size * options.max_seq_length // options.gradient_accumulation_steps
    rows = min(max(rows, 1), 4096)
    left = tf.ones([rows, config.hidden_size], dtype)
    right = tf.ones([config.hidden_size, config.intermediate_size], dtype)
    tf.matmul(left, right).numpy()
    begin, made = time.monotonic(), 0
    while (seconds := time.monotonic() - begin) < _SECONDS_OF_PRODUCTS:
        # The answer is waited for: a GPU's products return before they are made.
        tf.matmul(left, right)[0, 0].numpy()
        made += 1
    return 2.0 * made * rows * config.hidden_size * config.intermediate_size / seconds


def _measured(config: BertConfig, options: TrainingOptions, data: PretrainingData) -> str:
    """Returns what a few steps took, and what the run would."""
    strategy = devices.strategy(None)
    devices.require_equal_shares(strategy, options)
    state = new_state(config, options, strategy)
    step = training_step(state, model_of(config, options), options, data, strategy)
    peak = devices.peak_flops(options.precision, strategy)
    speed = Speed(config, options, first_step=0, peak_flops=peak)
    with Batches(data, batch_size=options.train_batch_size, seed=options.random_seed) as batches:
        begin, made = time.monotonic(), 0
        # The first call compiles.
        while made <= _MEASURED_STEPS or time.monotonic() - begin < _MEASURED_SECONDS:
            arrays = batches.take(1)
            tensors = {name: tf.constant(values) for name, values in arrays.items()}
            step.run(tensors, made)[0].numpy()
            speed.of_call(made, np.asarray(arrays["input_mask"]))
            begin = time.monotonic() if made == 0 else begin
            made += 1
    rates = speed.overall(0)
    rates["seconds_left"] = options.num_train_steps * (
        options.train_batch_size / rates["examples_per_second"]
    )
    return (
        f"Measured in {made - 1} steps: {speed_text(rates)} before the first of "
        f"{options.num_train_steps:,} steps, without evaluations and checkpoints"
    )
