"""Fine-tuning on a task: epochs, evaluation after each, the best one's weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from bert_clinical.nn.tensorflow import tf
from bert_clinical.optimization import Schedule
from bert_clinical.tasks.data import NO_LABEL, Encoded, batch_of, training_order
from bert_clinical.tasks.model import TaskModel, TaskTraining
from bert_clinical.tasks.options import FineTuningOptions
from data_prep.common.errors import UserError
from data_prep.common.progress import Progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """What was measured at the end of a pass over the data.

    Attributes:
      number: of the pass, from 1.
      step: updates made so far.
      train_loss: mean loss of its updates.
      metrics: of the dev data by name; empty without.
    """

    number: int
    step: int
    train_loss: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FineTuned:
    """How a run ended; the model holds the weights of `best`.

    Attributes:
      epochs: one after the other.
      best: the one with the highest value of the metric, of several the one with the least dev
        loss, of several the last; without dev data the last.
    """

    epochs: tuple[Epoch, ...]
    best: Epoch


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
) -> FineTuned:
    """Trains a model, and leaves it with the weights of its best epoch.

    Args:
      model: begins with pretrained weights.
      examples: to learn from.
      options: the settings.
      evaluate: measures the model as it is; called at the end of each epoch.
      metric: the one of `evaluate` that the best epoch is chosen by; higher is better.

    Raises:
      UserError: the loss is no longer finite, or memory ran out.

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
    )
    _log.info(
        "Training: %d examples, batch size %d, %d updates.",
        len(examples), options.train_batch_size, steps,
    )  # fmt: skip
    ends = _ends_of_epochs(len(examples), steps, options)
    epochs: list[Epoch] = []
    best: Epoch | None = None
    best_weights: dict[str, np.ndarray] = {}
    losses: list[float] = []
    order = training_order(len(examples), options.train_batch_size, steps, options.random_seed)
    with Progress("fine-tuning", "updates", total=steps) as progress, _out_of_memory(options):
        for step, chosen in enumerate(order):
            batch = batch_of(
                [examples[index] for index in chosen],
                per_token=model.per_token,
                length=options.max_seq_length if options.pad_to_max_seq_length else None,
                pad_label=0 if model.sum_loss else NO_LABEL,
            )
            losses.append(training.step(batch, step))
            if not math.isfinite(losses[-1]):
                raise UserError(
                    f"the loss is no longer finite at update {step + 1} of {steps}; choose a lower "
                    "--learning_rate"
                )
            progress.advance(1)
            if step + 1 not in ends:
                continue
            metrics = dict(evaluate()) if evaluate else {}
            epoch = Epoch(len(epochs) + 1, step + 1, float(np.mean(losses)), metrics)
            losses = []
            epochs.append(epoch)
            _log.info("%s", _line_of(epoch, len(ends)))
            if evaluate is None or best is None or _rank(epoch, metric) >= _rank(best, metric):
                best = epoch
                # Only an evaluation can make an earlier epoch the best one.
                best_weights = _values(model) if evaluate else {}
    if best is None:
        raise ValueError("no epoch has an end")
    for name, value in best_weights.items():
        model.variables[name].assign(value)
    return FineTuned(tuple(epochs), best)


def predict(model: TaskModel, examples: Sequence[Encoded], batch_size: int) -> list[np.ndarray]:
    """Returns the logits of each example, float32 [L], or [S, L] for WordPieces.

    Examples of like length share a batch, which changes no answer.
    """
    order = np.argsort([len(example) for example in examples], kind="stable")
    answers: list[np.ndarray] = [np.zeros(0)] * len(examples)
    for start in range(0, len(order), batch_size):
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


def _ends_of_epochs(examples: int, steps: int, options: FineTuningOptions) -> set[int]:
    """Returns after which updates an epoch ends; the last one ends with the run."""
    whole = int(options.num_train_epochs)
    ends = {int(examples / options.train_batch_size * epoch) for epoch in range(1, whole + 1)}
    return {end for end in ends if 0 < end <= steps} | {steps}


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
