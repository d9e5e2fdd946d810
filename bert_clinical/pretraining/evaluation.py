"""The figures of a model on examples, as Google's program evaluates it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.heads import PretrainingSums, masked_lm_denominator, total_loss
from bert_clinical.nn.packing import PackedShape, by_shape
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.batches import PretrainingData, sequential_batches
from bert_clinical.pretraining.model import Batch, PretrainingModel
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.shapes import shapes_of
from bert_clinical.pretraining.state import TrainingState
from bert_clinical.weights import checkpoint
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

RESULTS = (
    "global_step",
    "loss",
    "masked_lm_accuracy",
    "masked_lm_loss",
    "next_sentence_accuracy",
    "next_sentence_loss",
)
"""What an evaluation answers, by the names that Google's program writes."""

_LARGEST_EXPONENT = 700


def model_of(config: BertConfig, options: TrainingOptions) -> PretrainingModel:
    """Returns the model that a run's settings ask for."""
    return PretrainingModel(
        config,
        gelu=options.gelu,
        precision=options.precision,
        recompute_grad=options.recompute_grad,
        compile_gelu=not (options.jit_compile or tf.config.list_logical_devices("GPU")),
    )


def checkpoint_to_evaluate(output_dir: Path, init_checkpoint: str | None) -> tuple[str, int]:
    """Returns the prefix of the checkpoint to evaluate, and the step to report.

    Args:
      output_dir: the run's folder.
      init_checkpoint: prefix of the one to evaluate; the latest of `output_dir` if None.

    Raises:
      UserError: there is none.
    """
    latest = checkpoint.latest_checkpoint(output_dir)
    prefix = init_checkpoint or latest
    if prefix is None:
        raise UserError(
            f"{output_dir} holds no checkpoint to evaluate; add --do_train or --init_checkpoint"
        )
    # Weights in place of a run have made no step of it; Google's program says 0 as well.
    return prefix, checkpoint.checkpoint_step(prefix) if latest else 0


def evaluate(
    *,
    config: BertConfig,
    options: TrainingOptions,
    data: PretrainingData,
    output_dir: Path,
    init_checkpoint: str | None = None,
) -> dict[str, Any]:
    """Evaluates on one set of examples; otherwise as `evaluate_sets`."""
    results = evaluate_sets(
        config=config, options=options, sets={"": data}, output_dir=output_dir,
        init_checkpoint=init_checkpoint,
    )  # fmt: skip
    return results[""]


def evaluate_sets(
    *,
    config: BertConfig,
    options: TrainingOptions,
    sets: Mapping[str, PretrainingData],
    output_dir: Path,
    init_checkpoint: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Evaluates `init_checkpoint`, or the latest checkpoint of `output_dir`.

    Args:
      config: the model.
      options: `eval_batch_size`, `max_eval_steps`, activation, precision and what concerns speed
        are read.
      sets: the examples by name; read in order, again from the first after the last.
      output_dir: the run's folder.
      init_checkpoint: a prefix.

    Returns:
      For each set the values of `RESULTS` by name, as NumPy scalars.

    Raises:
      UserError: there is no checkpoint, or it does not fit the config.
    """
    prefix, step = checkpoint_to_evaluate(output_dir, init_checkpoint)
    state = TrainingState(config, random_seed=options.random_seed, slots=False)
    state.initialize_from(prefix)
    evaluate_on = evaluator(model_of(config, options), state, sets, options)
    results = {}
    for name, data in sets.items():
        read = options.max_eval_steps * options.eval_batch_size
        _log.info(
            "Evaluating %s (step %s)%s: %s of %s examples, in %d batches of %d%s",
            prefix, f"{step:,}", f" on {name}" if name else "", f"{min(read, data.records):,}",
            f"{data.records:,}", options.max_eval_steps, options.eval_batch_size,
            f"; they are read {read / data.records:.1f} times" if read > data.records else "",
        )  # fmt: skip
        results[name] = {"global_step": np.int64(step), **evaluate_on(name)}
    return results


def evaluator(
    model: PretrainingModel,
    state: TrainingState,
    sets: Mapping[str, PretrainingData],
    options: TrainingOptions,
) -> Callable[[str], dict[str, Any]]:
    """Returns what evaluates the state's weights, as they are then, on the set of a name."""
    steps = {
        name: EvaluationStep(
            model,
            state.variables,
            jit_compile=options.jit_compile,
            shapes=shapes_of(options, data, options.eval_batch_size),
        )
        for name, data in sets.items()
    }
    return lambda name: means(steps[name], sets[name], options)


def means(step: EvaluationStep, data: PretrainingData, options: TrainingOptions) -> dict[str, Any]:
    """Returns losses and accuracies by name; float32 sums in the order of the batches, as Google's.

    Args:
      step: of the model and its weights.
      data: the examples; read in order, again from the first after the last.
      options: `eval_batch_size` and `max_eval_steps` are read.
    """
    totals = np.zeros(len(PretrainingSums.NAMES) + 1, np.float32)
    for batch in sequential_batches(
        data, batch_size=options.eval_batch_size, steps=options.max_eval_steps
    ):
        totals += step({name: tf.constant(values) for name, values in batch.items()}).numpy()
    sums = dict(zip((*PretrainingSums.NAMES, "loss"), totals, strict=True))
    weight = sums["masked_lm_weight"] or np.float32(1)
    return {
        "loss": sums["loss"] / np.float32(options.max_eval_steps),
        "masked_lm_accuracy": sums["masked_lm_correct"] / weight,
        "masked_lm_loss": sums["masked_lm_loss"] / weight,
        "next_sentence_accuracy": sums["next_sentence_correct"] / sums["examples"],
        "next_sentence_loss": sums["next_sentence_loss"] / sums["examples"],
    }


def perplexity(loss: float) -> float:
    """Returns the perplexity of a mean cross-entropy; infinity where a float cannot hold it."""
    return math.inf if loss > _LARGEST_EXPONENT else math.exp(loss)


class EvaluationStep:
    """The sums of one batch without dropout, as a compiled call.

    Args:
      model: encoder and heads.
      variables: the weights, float32 by name.
      jit_compile: compile by XLA.
      shapes: room for the real tokens of a batch, as of `TrainingStep`.
    """

    def __init__(
        self,
        model: PretrainingModel,
        variables: Mapping[str, tf.Variable],
        *,
        jit_compile: bool = False,
        shapes: Sequence[PackedShape] = (),
    ) -> None:
        self._model = model
        self._shapes = shapes
        self._variables = variables
        self._sums = tf.function(
            self._stacked_sums, autograph=False, jit_compile=jit_compile or None
        )

    def __call__(self, batch: Batch) -> tf.Tensor:
        """Returns `PretrainingSums` stacked, and the batch's loss: float32 [7]."""
        return self._sums(batch)

    def _stacked_sums(self, batch: Batch) -> tf.Tensor:
        weights = {name: tf.convert_to_tensor(value) for name, value in self._variables.items()}
        stacked = by_shape(
            batch["input_mask"],
            self._shapes,
            lambda shape: self._model.sums(weights, batch, packed=shape).stacked(),
        )
        sums = PretrainingSums.unstacked(stacked)
        loss = total_loss(sums, masked_lm_denominator(batch["masked_lm_weights"]), sums.examples)
        return tf.concat([stacked, loss[None]], axis=0)
