"""Pretraining from the first step that is left to the last."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import devices
from bert_clinical.pretraining.batches import Batches, PretrainingData
from bert_clinical.pretraining.evaluation import evaluator, model_of
from bert_clinical.pretraining.model import PretrainingModel
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.run import Run
from bert_clinical.pretraining.settings import schedule_of
from bert_clinical.pretraining.shapes import shapes_of
from bert_clinical.pretraining.state import TrainingState
from bert_clinical.pretraining.step import TrainingStep
from bert_clinical.pretraining.worker_agreement import WorkerAgreement
from data_prep.common.stopping import StopRequest

_log = logging.getLogger(__name__)

_SECONDS_PER_CALL = 5.0
"""A compiled call is not to take longer, so that a signal is heard soon."""

_BYTES_PER_CALL = 64 << 20


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
      step: updates made in all.
      last_metrics: those of the last step by name; empty if no step was made.
      checkpoint: the prefix of the last checkpoint.
      stopped_by: the signal that ended the run early, 0 for none.
      held_out: the last results on held-out data by name.
    """

    step: int
    last_metrics: dict[str, float]
    checkpoint: str
    stopped_by: int = 0
    held_out: dict[str, Any] = field(default_factory=dict)


def train(
    *,
    config: BertConfig,
    options: TrainingOptions,
    data: PretrainingData,
    output_dir: Path,
    init_checkpoint: str | None = None,
    held_out: Mapping[str, PretrainingData] | None = None,
    stop: StopRequest | None = None,
    strategy: tf.distribute.Strategy | None = None,
    agreement: WorkerAgreement | None = None,
    flags: Mapping[str, Any] | None = None,
    sidecars: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Trains from a checkpoint of `output_dir`, else from `init_checkpoint`, else from scratch.

    Args:
      config: the model.
      options: the settings.
      data: the examples.
      output_dir: where checkpoints and logs go; exists.
      init_checkpoint: prefix of a checkpoint whose weights to begin with.
      held_out: sets of examples by name, to evaluate on every `eval_every` steps; the first decides
        which checkpoint is the best.
      stop: asks for an early end, after a step and with a checkpoint; one of several workers that
        is asked ends them all, after the same step.
      strategy: of several devices, each of which takes an equal share of every batch. None for one
        device.
      agreement: of several workers, whose chief alone writes. None for a process alone.
      flags: of the program, for the record; the settings if None.
      sidecars: what is known of how the data was made, by file, for the record.

    Raises:
      UserError: a checkpoint does not fit, a record is corrupt, the loss is no longer finite, or
        the disk is full; several workers differ, or another one failed.
    """
    devices.require_equal_shares(strategy, options)
    held_out = (held_out or {}) if options.eval_every else {}
    run = Run(
        output_dir=output_dir, config=config, options=options, data=data, held_out=tuple(held_out),
        flags=flags, sidecars=sidecars, agreement=agreement, strategy=strategy,
    )  # fmt: skip
    run.begin(init_checkpoint)
    if run.gave_up:
        _say_without_gain(run)
        return TrainingResult(run.state.step, {}, run.latest or "")
    if run.state.step >= options.num_train_steps:
        _log.info(
            "%s is at step %d of %d: nothing is left to train", run.latest, run.state.step,
            options.num_train_steps,
        )  # fmt: skip
        return TrainingResult(run.state.step, {}, run.latest or "")
    model = model_of(config, options)
    step = training_step(run.state, model, options, data, strategy)
    loop = _Loop(
        run=run, step=step, stop=stop or StopRequest(), evaluates=bool(held_out),
        evaluate=evaluator(model, run.state, held_out, options),
    )  # fmt: skip
    with run.logged():
        result = loop.to_end()
    if run.gave_up:
        _say_without_gain(run)
    return result


def _say_without_gain(run: Run) -> None:
    _log.info(
        "%s: the last %d evaluations brought no lower masked LM loss on held-out data, and "
        "--stop_after_no_gain=%d ends the run there",
        run.latest, run.options.stop_after_no_gain, run.options.stop_after_no_gain,
    )  # fmt: skip


def training_step(
    state: TrainingState,
    model: PretrainingModel,
    options: TrainingOptions,
    data: PretrainingData,
    strategy: tf.distribute.Strategy | None,
) -> TrainingStep:
    """Returns the compiled step that a run's settings ask for."""
    shares = options.gradient_accumulation_steps
    if strategy is not None:
        shares *= strategy.num_replicas_in_sync
    return TrainingStep(
        model,
        schedule_of(options),
        random_seed=options.random_seed,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        variables=state.variables,
        slots=state.slots,
        loss_scale=state.loss_scale,
        jit_compile=options.jit_compile,
        shapes=shapes_of(options, data, options.train_batch_size // shares),
        strategy=strategy,
    )


@dataclass
class _Loop:
    """The steps of a run, one compiled call after the other.

    Of several workers each has its own, and makes the same calls, meets the others after the same
    steps and ends at the same one: whatever decides that follows from flags and step, or is told to
    all by `TrainingStep.run` or the run's `agreement`.
    """

    run: Run
    step: TrainingStep
    stop: StopRequest
    evaluates: bool
    evaluate: Callable[[str], dict[str, Any]]
    measured_pace: float = math.inf
    pace: float = math.inf
    calls: int = 0
    stopped_by: int = 0

    def to_end(self) -> TrainingResult:
        """Makes all steps that are left, or those until a stop is asked for."""
        run, total = self.run, self.run.options.num_train_steps
        with Batches(
            run.data,
            batch_size=run.options.train_batch_size,
            seed=run.options.random_seed,
            first_step=run.state.step,
        ) as batches:
            planned = self._steps_of_call(run.state.step)
            while run.state.step < total:
                after = run.state.step + planned
                then = self._steps_of_call(after) if after < total else 0
                with self._ended_if_stalled(planned):
                    self._call(batches.take(planned, then))
                planned = then
                self._after_call()
                if self._is_to_stop() or run.gave_up:
                    break
        return TrainingResult(
            run.state.step, run.last_metrics, run.latest or "", self.stopped_by, run.last_held_out
        )

    def _steps_of_call(self, step: int) -> int:
        """Returns how many steps the compiled call that begins at `step` is to make."""
        options, decoder = self.run.options, self.run.data.decoder
        example_bytes = 4 * (decoder.int_width + decoder.float_width)
        limits = [
            options.iterations_per_loop,
            options.num_train_steps - step,
            options.save_checkpoints_steps - step % options.save_checkpoints_steps,
            _BYTES_PER_CALL // (example_bytes * options.train_batch_size),
            int(_SECONDS_PER_CALL / self.pace),
        ]
        if self.evaluates:
            limits.append(options.eval_every - step % options.eval_every)
        return max(1, min(limits))

    def _ended_if_stalled(self, steps: int) -> AbstractContextManager[None]:
        """Watches over a call where another worker could keep it from ever ending."""
        cluster = self.run.agreement.cluster
        # Before the pace is known, calls are compiled.
        if cluster is None or math.isinf(self.pace):
            return nullcontext()
        return cluster.ended_if_stalled(self.run.state.step, steps * self.pace)

    def _call(self, arrays: dict[str, np.ndarray]) -> None:
        """Makes the steps of one compiled call."""
        begin = time.monotonic()
        tensors = {name: tf.constant(values) for name, values in arrays.items()}
        # Other workers make every step with this one, so that only the call itself can tell them.
        stop_asked = self.run.agreement.has_others and bool(self.stop.signal_number)
        answer, heard = self.step.run(
            tensors, self.run.state.step, stop_asked=stop_asked, pace=self.measured_pace
        )
        rows = answer.numpy()
        all_stop, self.pace = bool(heard[0] > 0), float(heard[1])
        seconds = time.monotonic() - begin
        if self.calls:
            # The first call also traces and compiles.
            self.measured_pace = seconds / len(rows)
        self.calls += 1
        asked = len(next(iter(arrays.values())))
        if all_stop:
            self.stopped_by = self.stop.signal_number or signal.SIGTERM
        self.run.made(rows, arrays["input_mask"], broken_off=len(rows) < asked and not all_stop)

    def _is_to_stop(self) -> bool:
        """Tells whether the run ends here; one of several workers never decides that alone."""
        if not self.run.agreement.has_others:
            self.stopped_by = self.stop.signal_number
        return bool(self.stopped_by)

    def _after_call(self) -> None:
        run, options, step = self.run, self.run.options, self.run.state.step
        due = step % options.save_checkpoints_steps == 0 or step == options.num_train_steps
        if self.evaluates and step % options.eval_every == 0:
            # The best stays to be had: it is saved whenever it is found.
            due = run.evaluate(self.evaluate) or run.gave_up or due
        if due or self._is_to_stop():
            run.save(self.stopped_by)
