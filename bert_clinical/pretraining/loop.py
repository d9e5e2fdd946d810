"""Pretraining from the first step that is left to the last."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import batches as input_pipeline
from bert_clinical.pretraining import devices
from bert_clinical.pretraining.batches import PretrainingData
from bert_clinical.pretraining.errors import translated_errors
from bert_clinical.pretraining.evaluation import EvaluationStep, means, model_of
from bert_clinical.pretraining.log import SilentLog, TrainingLog
from bert_clinical.pretraining.model import PretrainingModel
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.shapes import shapes_of
from bert_clinical.pretraining.state import (
    TrainingState,
    checkpoint_fingerprint,
    checkpoint_prefix,
    latest_checkpoint_of_all,
    remove_unfinished_checkpoints,
)
from bert_clinical.pretraining.step import (
    METRICS,
    StepSettings,
    TrainingStep,
)
from bert_clinical.pretraining.worker_agreement import WorkerAgreement
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

_SECONDS_PER_CALL = 5.0
"""A compiled call is not to take longer, so that a signal is heard soon."""

_BYTES_PER_CALL = 64 << 20


@dataclass
class StopRequest:
    """Set from a signal handler: the run ends after the step, with a checkpoint.

    One of several workers that is asked ends them all, after the same step.

    Attributes:
      signal_number: the signal that asked for it, 0 for none.
    """

    signal_number: int = 0


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
      step: updates made in all.
      last_metrics: those of the last step by name; empty if no step was made.
      checkpoint: the prefix of the last checkpoint.
      stopped_by: the signal that ended the run early, 0 for none.
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
    held_out: PretrainingData | None = None,
    stop: StopRequest | None = None,
    strategy: tf.distribute.Strategy | None = None,
    agreement: WorkerAgreement | None = None,
) -> TrainingResult:
    """Trains from a checkpoint of `output_dir`, else from `init_checkpoint`, else from scratch.

    Args:
      config: the model.
      options: the settings.
      data: the examples.
      output_dir: where checkpoints and logs go; exists.
      init_checkpoint: prefix of a checkpoint whose weights to begin with.
      held_out: examples to evaluate on every `eval_every` steps.
      stop: asks for an early end.
      strategy: of several devices, each of which takes an equal share of every batch. None for one
        device.
      agreement: of several workers, whose chief alone writes. None for a process alone.

    Raises:
      UserError: a checkpoint does not fit, a record is corrupt, the loss is no longer finite, or
        the disk is full; several workers differ, or another one failed.
    """
    stop = stop or StopRequest()
    agreement = agreement or WorkerAgreement()
    devices.require_equal_shares(strategy, options)
    with strategy.scope() if strategy else nullcontext():
        state = TrainingState(
            config,
            random_seed=options.random_seed,
            dynamic_loss_scale=options.precision == "mixed_float16",
        )
    latest = _begin(state, output_dir, init_checkpoint, agreement)
    if state.step >= options.num_train_steps:
        _log.info(
            "%s is at step %d of %d: nothing is left to train", latest, state.step,
            options.num_train_steps,
        )  # fmt: skip
        return TrainingResult(state.step, {}, latest or "")
    model = model_of(config, options)
    devices_and_parts = options.gradient_accumulation_steps
    if strategy is not None:
        devices_and_parts *= strategy.num_replicas_in_sync
    step = TrainingStep(
        model,
        StepSettings(
            learning_rate=options.learning_rate,
            num_train_steps=options.num_train_steps,
            num_warmup_steps=options.num_warmup_steps,
            random_seed=options.random_seed,
            gradient_accumulation_steps=options.gradient_accumulation_steps,
        ),
        variables=state.variables,
        slots=state.slots,
        loss_scale=state.loss_scale,
        jit_compile=options.jit_compile,
        shapes=shapes_of(options, data, options.train_batch_size // devices_and_parts),
        strategy=strategy,
    )
    new_log = TrainingLog if agreement.is_chief else SilentLog
    with new_log(output_dir, options=options, first_step=state.step) as log:
        run = _Run(
            state=state, options=options, data=data, output_dir=output_dir, step=step,
            log=log, stop=stop, latest=latest, agreement=agreement,
            evaluate=None if held_out is None else _evaluator(model, state, held_out, options),
        )  # fmt: skip
        return run.to_end()


def _evaluator(
    model: PretrainingModel,
    state: TrainingState,
    held_out: PretrainingData,
    options: TrainingOptions,
) -> Callable[[], dict[str, Any]]:
    """Returns what evaluates the state's weights as they are when it is called."""
    step = EvaluationStep(
        model,
        state.variables,
        jit_compile=options.jit_compile,
        shapes=shapes_of(options, held_out, options.eval_batch_size),
    )
    return lambda: means(step, held_out, options)


def _begin(
    state: TrainingState, output_dir: Path, init_checkpoint: str | None, agreement: WorkerAgreement
) -> str | None:
    """Gives the state its first weights; returns the checkpoint that the run goes on from."""
    if agreement.is_chief:
        remove_unfinished_checkpoints(output_dir)
    latest = latest_checkpoint_of_all(output_dir, agreement)
    if latest is None and agreement.has_others:
        content = init_checkpoint and checkpoint_fingerprint(init_checkpoint)
        agreement.require_same({"--init_checkpoint": content})
    with agreement.together():
        if latest is not None:
            state.restore(latest)
            ignored = "; --init_checkpoint is not read" if init_checkpoint else ""
            _log.info("Going on from %s at step %d%s", latest, state.step, ignored)
        elif init_checkpoint is not None:
            state.initialize_from(init_checkpoint)
        else:
            _log.info("Starting from random weights (no --init_checkpoint)")
    return latest


@dataclass
class _Run:
    """A run under way.

    Of several workers each has its own, and makes the same calls, meets the others after the same
    steps and ends at the same one: whatever decides that follows from flags and step, or is told to
    all by `TrainingStep.run` or `agreement`.
    """

    state: TrainingState
    options: TrainingOptions
    data: PretrainingData
    output_dir: Path
    step: TrainingStep
    log: TrainingLog | SilentLog
    stop: StopRequest
    latest: str | None
    agreement: WorkerAgreement
    evaluate: Callable[[], dict[str, Any]] | None
    measured_pace: float = math.inf
    pace: float = math.inf
    calls: int = 0
    stopped_by: int = 0
    saved_step: int = -1
    last_metrics: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)

    def to_end(self) -> TrainingResult:
        """Makes all steps that are left, or those until a stop is asked for."""
        total = self.options.num_train_steps
        with input_pipeline.Batches(
            self.data,
            batch_size=self.options.train_batch_size,
            seed=self.options.random_seed,
            first_step=self.state.step,
        ) as batches:
            planned = self._steps_of_call(self.state.step)
            while self.state.step < total:
                after = self.state.step + planned
                then = self._steps_of_call(after) if after < total else 0
                with self._ended_if_stalled(planned):
                    self._call(batches.take(planned, then))
                planned = then
                self._after_call()
                if self._is_to_stop():
                    break
        if self.saved_step != self.state.step:
            self._save()
        return TrainingResult(
            self.state.step, self.last_metrics, self.latest or "", self.stopped_by, self.held_out
        )  # fmt: skip

    def _steps_of_call(self, step: int) -> int:
        """Returns how many steps the compiled call that begins at `step` is to make."""
        options = self.options
        example_bytes = 4 * (self.data.decoder.int_width + self.data.decoder.float_width)
        limits = [
            options.iterations_per_loop,
            options.num_train_steps - step,
            options.save_checkpoints_steps - step % options.save_checkpoints_steps,
            _BYTES_PER_CALL // (example_bytes * options.train_batch_size),
            int(_SECONDS_PER_CALL / self.pace),
        ]
        if self.evaluate is not None and options.eval_every:
            limits.append(options.eval_every - step % options.eval_every)
        return max(1, min(limits))

    def _ended_if_stalled(self, steps: int) -> AbstractContextManager[None]:
        """Watches over a call where another worker could keep it from ever ending."""
        cluster = self.agreement.cluster
        # Before the pace is known, calls are compiled.
        if cluster is None or math.isinf(self.pace):
            return nullcontext()
        return cluster.ended_if_stalled(self.state.step, steps * self.pace)

    def _call(self, arrays: dict[str, np.ndarray]) -> None:
        """Makes the steps of one compiled call."""
        begin = time.monotonic()
        tensors = {name: tf.constant(values) for name, values in arrays.items()}
        # Other workers make every step with this one, so that only the call itself can tell them.
        stop_asked = self.agreement.has_others and bool(self.stop.signal_number)
        answer, heard = self.step.run(
            tensors, self.state.step, stop_asked=stop_asked, pace=self.measured_pace
        )
        rows = answer.numpy()
        all_stop, self.pace = bool(heard[0] > 0), float(heard[1])
        seconds = time.monotonic() - begin
        if self.calls:
            # The first call also traces and compiles.
            self.measured_pace = seconds / len(rows)
        self.calls += 1
        asked = len(next(iter(arrays.values())))
        first = self.state.step
        self.state.step += len(rows)
        self.last_metrics = dict(zip(METRICS, map(float, rows[-1]), strict=True))
        if all_stop:
            self.stopped_by = self.stop.signal_number or signal.SIGTERM
        if (len(rows) < asked and not all_stop) or not self._is_well():
            self._fail("the loss or its gradient is no finite number")
        self.log.steps(first, rows, seconds)

    def _is_to_stop(self) -> bool:
        """Tells whether the run ends here; one of several workers never decides that alone."""
        if not self.agreement.has_others:
            self.stopped_by = self.stop.signal_number
        return bool(self.stopped_by)

    def _is_well(self) -> bool:
        """Tells whether training can go on; with float16 an overflow is not the end."""
        if self.state.loss_scale.dynamic and self.last_metrics["loss_scale"] > 1:
            return True
        return all(math.isfinite(self.last_metrics[name]) for name in ("loss", "gradient_norm"))

    def _fail(self, what: str) -> None:
        metrics = self.last_metrics
        good = self.latest or "none; the run had not saved any yet"
        raise UserError(
            f"step {self.state.step - 1}: {what} (loss {metrics['loss']:g}, gradient norm "
            f"{metrics['gradient_norm']:g}, learning rate {metrics['learning_rate']:g}); nothing "
            f"was saved since the last good checkpoint: {good}; try a lower --learning_rate or "
            "more --num_warmup_steps"
        )

    def _after_call(self) -> None:
        options, step = self.options, self.state.step
        due = step % options.save_checkpoints_steps == 0 or step == options.num_train_steps
        if self.evaluate is not None and options.eval_every and step % options.eval_every == 0:
            with self._chief_at_work():
                if self.agreement.is_chief:
                    self.held_out = self.evaluate()
                    self.log.held_out(step, self.held_out)
        if due or self._is_to_stop():
            self._save()

    def _save(self) -> None:
        with self._chief_at_work():
            if self.agreement.is_chief:
                if not self.state.is_sound():
                    self._fail("the update has made weights too large to go on with")
                prefix = self.state.save(self.output_dir, self.options.keep_checkpoint_max)
                self.log.saved(self.state.step, prefix)
        self.saved_step = self.state.step
        self.latest = checkpoint_prefix(self.output_dir, self.state.step)

    @contextmanager
    def _chief_at_work(self) -> Iterator[None]:
        """Has the other workers wait for the chief, as long as it takes, and end if it fails."""
        with self.agreement.together(), translated_errors(self.options):
            yield
