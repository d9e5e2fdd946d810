"""Fine-tuning on a task: epochs, evaluation after each, the best one's weights."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from bert_clinical.nn.tensorflow import tf
from bert_clinical.optimization import Schedule
from bert_clinical.tasks.checkpoints import Epoch, TrainingFolder, TrainingProgress
from bert_clinical.tasks.data import NO_LABEL, Encoded, batch_of, training_order
from bert_clinical.tasks.model import TaskModel, TaskTraining
from bert_clinical.tasks.options import FineTuningOptions
from data_prep.common.errors import UserError
from data_prep.common.progress import Progress
from data_prep.common.stopping import Stopped, StopRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuned:
    """How a run ended; the model holds the weights of `best`.

    Attributes:
      progress: the run's, which is finished.
    """

    progress: TrainingProgress

    @property
    def epochs(self) -> Sequence[Epoch]:
        """The epochs, one after the other."""
        return self.progress.epochs

    @property
    def best(self) -> Epoch:
        """The epoch with the highest value of the metric.

        Of several the one with the least dev loss, of several the last; without dev data the last.
        """
        return self.epochs[self.progress.best - 1]


def number_of_steps(examples: int, options: FineTuningOptions) -> int:
    """Returns the updates of a run, as Google's programs count them.

    Raises:
      UserError: there would be none.
    """
    steps = int(examples / options.train_batch_size * options.num_train_epochs)
    if steps < 1:
        raise UserError(
            f"{examples} training examples give no update at --train_batch_size="
            f"{options.train_batch_size} and --num_train_epochs={options.num_train_epochs:g}; "
            "choose a smaller batch"
        )
    return steps


def fine_tune(
    *,
    model: TaskModel,
    examples: Sequence[Encoded],
    options: FineTuningOptions,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    metric: str = "",
    folder: TrainingFolder | None = None,
    save_every: int = 0,
    stop: StopRequest | None = None,
) -> FineTuned:
    """Trains a model, and leaves it with the weights of its best epoch.

    Args:
      model: begins with pretrained weights.
      examples: to learn from.
      options: the settings.
      evaluate: measures the model as it is; called at the end of each epoch.
      metric: the one of `evaluate` that the best epoch is chosen by; higher is better.
      folder: of checkpoints; what it holds of this run is gone on from.
      save_every: updates from one checkpoint to the next; 0 for none but at a stop.
      stop: asks for an early end.

    Raises:
      UserError: the loss is no longer finite, or memory ran out.
      Stopped: as `stop` asked; the run is saved in `folder`.

    Differs: Google's programs keep the last weights; shuffle within 100 examples, always the same
      way into the next pass; and pad all batches to `max_seq_length`.
    """
    steps = number_of_steps(len(examples), options)
    training = TaskTraining(
        model,
        Schedule(
            learning_rate=options.learning_rate,
            num_train_steps=steps,
            num_warmup_steps=int(steps * options.warmup_proportion),
        ),
        random_seed=options.random_seed,
        adam_bias_correction=options.adam_bias_correction,
    )
    run = _Run(
        model=model, training=training, examples=examples, options=options, steps=steps,
        ends=_ends_of_epochs(len(examples), steps, options), evaluate=evaluate, metric=metric,
        folder=folder, save_every=save_every, stop=stop or StopRequest(),
    )  # fmt: skip
    with _out_of_memory(options):
        return run.to_end()


@dataclass
class _Run:
    """A run under way."""

    model: TaskModel
    training: TaskTraining
    examples: Sequence[Encoded]
    options: FineTuningOptions
    steps: int
    ends: Sequence[int]
    evaluate: Callable[[], Mapping[str, float]] | None
    metric: str
    folder: TrainingFolder | None
    save_every: int
    stop: StopRequest
    state: TrainingProgress = field(default_factory=TrainingProgress)

    def to_end(self) -> FineTuned:
        """Makes all updates that are left, evaluates the epochs, and chooses the best."""
        self._restore()
        state = self.state
        _log.info(
            "Training: %d examples, batch size %d, %d updates.",
            len(self.examples), self.options.train_batch_size, self.steps,
        )  # fmt: skip
        batches = itertools.islice(
            training_order(
                len(self.examples), self.options.train_batch_size, self.steps,
                self.options.random_seed,
            ),
            state.step, None,
        )  # fmt: skip
        with Progress("fine-tuning", "updates", total=self.steps) as progress:
            progress.skip(state.step)
            try:
                self._end_epoch()
                for chosen in batches:
                    self.stop.raise_if_asked()
                    self._update(chosen)
                    progress.advance(1)
                    self._end_epoch()
                    if self.save_every and state.step % self.save_every == 0:
                        self._save()
            except Stopped:
                self._save()
                raise
        for name, value in state.best_weights.items():
            self.model.variables[name].assign(value)
        state.best_weights, state.finished = {}, True
        return FineTuned(state)

    def _restore(self) -> None:
        found = self.folder.read() if self.folder else None
        if found is None:
            return
        self.state, tensors = found
        variables = dict(self.model.variables)
        if not self.state.finished:
            variables |= self.training.slots
        for name, variable in variables.items():
            variable.assign(tensors[name])
        _log.info("Going on after update %d of %d.", self.state.step, self.steps)

    def _save(self) -> None:
        if self.folder is not None:
            self.folder.write(self.state, {**self.model.variables, **self.training.slots})

    def _update(self, chosen: np.ndarray) -> None:
        """Makes one update with a batch of the examples of these numbers."""
        batch = batch_of(
            [self.examples[index] for index in chosen],
            per_token=self.model.per_token,
            length=self.options.max_seq_length if self.options.pad_to_max_seq_length else None,
            pad_label=0 if self.model.sum_loss else NO_LABEL,
        )
        loss = self.training.step(batch, self.state.step)
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is no longer finite at update {self.state.step + 1} of {self.steps}; "
                "choose a lower --learning_rate"
            )
        self.state.losses.append(loss)
        self.state.step += 1

    def _end_epoch(self) -> None:
        """Measures the model if an epoch ends with the last update and has not been measured."""
        state = self.state
        if state.finished or state.step not in self.ends[len(state.epochs) :]:
            return
        measured = self.evaluate() if self.evaluate else {}
        metrics = {name: float(value) for name, value in measured.items()}
        mean = float(np.mean(state.losses))
        epoch = Epoch(len(state.epochs) + 1, state.step, mean, metrics)
        state.losses = []
        state.epochs.append(epoch)
        _log.info("%s", _line_of(epoch, len(self.ends)))
        best = state.epochs[state.best - 1] if state.best else None
        if (
            not self.evaluate
            or best is None
            or _rank(epoch, self.metric) >= _rank(best, self.metric)
        ):
            state.best = epoch.number
            # Only an evaluation can make an earlier epoch the best one.
            state.best_weights = _values(self.model) if self.evaluate else {}


def predict(
    model: TaskModel,
    examples: Sequence[Encoded],
    batch_size: int,
    stop: StopRequest | None = None,
) -> list[np.ndarray]:
    """Returns the logits of each example, float32 [L], or [S, L] for WordPieces.

    Examples of like length share a batch, which changes no answer.

    Raises:
      Stopped: as `stop` asked.
    """
    order = np.argsort([len(example) for example in examples], kind="stable")
    answers: list[np.ndarray] = [np.zeros(0)] * len(examples)
    for start in range(0, len(order), batch_size):
        if stop is not None:
            stop.raise_if_asked()
        chosen = order[start : start + batch_size]
        batch = batch_of([examples[index] for index in chosen], per_token=model.per_token)
        logits = model.logits(batch).numpy()
        for row, index in enumerate(chosen):
            answers[index] = logits[row, : len(examples[index])] if model.per_token else logits[row]
    return answers


def mean_loss(examples: Sequence[Encoded], logits: Sequence[np.ndarray]) -> float:
    """Returns the mean cross-entropy over all labels that are there, NaN if there is none."""
    losses: list[float] = []
    for example, values in zip(examples, logits, strict=True):
        table = np.atleast_2d(values).astype(np.float64)
        top = table.max(axis=-1, keepdims=True)
        log_sums = top[:, 0] + np.log(np.exp(table - top).sum(axis=-1))
        losses += [
            float(log_sums[place] - table[place, label])
            for place, label in enumerate(example.label_ids)
            if label != NO_LABEL
        ]
    return float(np.mean(losses)) if losses else math.nan


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits, float32, over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _ends_of_epochs(examples: int, steps: int, options: FineTuningOptions) -> list[int]:
    """Returns after which updates an epoch ends, in order; the last one ends with the run."""
    whole = int(options.num_train_epochs)
    ends = {int(examples / options.train_batch_size * epoch) for epoch in range(1, whole + 1)}
    return sorted({end for end in ends if 0 < end <= steps} | {steps})


def _rank(epoch: Epoch, metric: str) -> tuple[float, float]:
    return epoch.metrics[metric], -epoch.metrics.get("loss", 0.0)


def _line_of(epoch: Epoch, count: int) -> str:
    parts = [f"epoch {epoch.number} of {count}", f"update {epoch.step}"]
    parts.append(f"train_loss {epoch.train_loss:.4f}")
    parts += [f"{name} {value:.4f}" for name, value in epoch.metrics.items()]
    return ", ".join(parts)


def _values(model: TaskModel) -> dict[str, np.ndarray]:
    return {name: variable.numpy().copy() for name, variable in model.variables.items()}


@contextmanager
def _out_of_memory(options: FineTuningOptions) -> Iterator[None]:
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError):
        raise UserError(
            f"out of memory at --train_batch_size={options.train_batch_size} and --max_seq_length="
            f"{options.max_seq_length}; choose a smaller batch"
        ) from None
