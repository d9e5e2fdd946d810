"""The compiled part of pretraining: losses, gradients, the update, many steps in one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bert_clinical import optimization
from bert_clinical.nn.heads import PretrainingSums, masked_lm_denominator, total_loss
from bert_clinical.nn.packing import PackedShape, by_shape
from bert_clinical.nn.precision import LossScale
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.model import Batch, PretrainingModel, Tensors

METRICS = (
    "loss",
    "masked_lm_loss",
    "masked_lm_accuracy",
    "next_sentence_loss",
    "next_sentence_accuracy",
    "learning_rate",
    "gradient_norm",
    "loss_scale",
)
"""What a step answers, in the order of the columns of `TrainingStep.run`."""

# The dropout seed counts steps, parts of a batch below them, and places in the model below these.
_PARTS_PER_STEP, _SITES_PER_PART = 1 << 12, 1 << 12


class TrainingStep:
    """Steps of training as one compiled call.

    Args:
      model: encoder and heads.
      schedule: the learning rate.
      random_seed: of the dropout masks.
      gradient_accumulation_steps: parts into which a batch is divided.
      variables: the weights, float32 by name.
      slots: the optimizer's, as of `optimization.create_slots`.
      loss_scale: how losses are scaled and what happens when gradients overflow.
      jit_compile: compile the step by XLA.
      shapes: room for the real tokens of a part of a batch, see `packing.by_shape`; none for
        padding to be computed too.
      strategy: of several devices, under whose scope the variables were made; None for one.
    """

    def __init__(
        self,
        model: PretrainingModel,
        schedule: optimization.Schedule,
        *,
        random_seed: int,
        gradient_accumulation_steps: int = 1,
        variables: Mapping[str, tf.Variable],
        slots: Mapping[str, tf.Variable],
        loss_scale: LossScale,
        jit_compile: bool = False,
        shapes: Sequence[PackedShape] = (),
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self._strategy = strategy
        self._shapes = shapes
        self._model = model
        self._schedule = schedule
        self._random_seed = random_seed
        self._parts = gradient_accumulation_steps
        self._variables = variables
        self._slots = slots
        self._loss_scale = loss_scale
        self._step = tf.function(self._one_step, autograph=False, jit_compile=jit_compile or None)
        self._compiled: Callable[..., tuple[tf.Tensor, tf.Tensor]] | None = None

    def run(
        self,
        batches: Mapping[str, tf.Tensor],
        first_step: int,
        *,
        stop_asked: bool = False,
        pace: float = math.inf,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Makes a step for each batch; ends early after one that is not finite, or if asked to.

        With several workers all make the same number of steps and are answered the same.

        Args:
          batches: features by name, [steps, B, ...].
          first_step: the number of steps made before.
          stop_asked: end after a step; it is enough that one worker asks.
          pace: seconds a step, as this worker has measured.

        Returns:
          float32 [steps made, len(METRICS)], and float32 [2]: how many devices were asked to stop,
          and the chief's pace.
        """
        told = tf.constant([float(stop_asked), pace])
        if self._compiled is None:
            self._compiled = self._compiled_for(batches)
        return self._compiled(batches, tf.constant(first_step, tf.int64), told)

    def _compiled_for(self, batches: Mapping[str, tf.Tensor]) -> Callable[..., Any]:
        """Returns the call for any number of such batches: compiling it takes seconds."""
        like_them = {
            name: tf.TensorSpec([None, *values.shape[1:]], values.dtype)
            for name, values in batches.items()
        }
        signature = [like_them, tf.TensorSpec([], tf.int64), tf.TensorSpec([2], tf.float32)]
        return tf.function(self._steps, autograph=False, input_signature=signature)

    def _steps(
        self, batches: Batch, first_step: tf.Tensor, told: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        count = tf.shape(batches["input_ids"])[0]
        rows = tf.TensorArray(
            tf.float32, size=count, element_shape=[len(METRICS)], clear_after_read=False
        )

        def unfinished(
            done: tf.Tensor, going_well: tf.Tensor, heard: tf.Tensor, _: tf.TensorArray
        ) -> tf.Tensor:
            return (done < count) & going_well & (heard[0] == 0)

        def body(
            done: tf.Tensor, _: tf.Tensor, __: tf.Tensor, rows: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
            batch = {name: tf.gather(values, done) for name, values in batches.items()}
            step = first_step + tf.cast(done, tf.int64)
            row, going_well, heard = self._step(batch, step, told)
            return done + 1, going_well, heard, rows.write(done, row)

        done, _, heard, rows = tf.while_loop(
            unfinished, body, (0, True, tf.zeros([2]), rows), parallel_iterations=1
        )
        return rows.stack()[:done], heard

    def _one_step(
        self, batch: Batch, step: tf.Tensor, told: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the step's metrics, whether training can go on, and what all workers told."""
        if self._strategy is None:
            gradients, stacked, norm = self._summed_gradients(batch, step, told)
            own_norm, scale = norm, tf.convert_to_tensor(self._loss_scale.value)
        else:
            gradients, stacked, norm = self._strategy.run(
                self._summed_gradients, args=(batch, step, told)
            )
            # Every device has the same sums by now.
            stacked = self._strategy.experimental_local_results(stacked)[0]
            own_norm = self._strategy.experimental_local_results(norm)[0]
            scale = self._loss_scale.value.read_value()
        sums, heard = PretrainingSums.unstacked(stacked[:-2]), stacked[-2:]
        rate = self._schedule.rate_at(step)
        lm_denominator = masked_lm_denominator(batch["masked_lm_weights"])
        loss = total_loss(sums, lm_denominator, sums.examples)
        finite = tf.math.is_finite(own_norm) & tf.math.is_finite(loss)
        clipping = optimization.clip_scale(own_norm) / scale
        going_well = self._loss_scale.guard(finite, lambda: self._update(gradients, clipping, rate))
        row = tf.stack(
            [
                loss,
                sums.masked_lm_loss / lm_denominator,
                sums.masked_lm_correct / tf.maximum(sums.masked_lm_weight, 1.0),
                sums.next_sentence_loss / sums.examples,
                sums.next_sentence_correct / sums.examples,
                rate,
                own_norm,
                scale,
            ]
        )
        return row, going_well, heard

    def _update(self, gradients: Mapping[str, Any], clipping: tf.Tensor, rate: tf.Tensor) -> None:
        """Updates every variable, on each device its own copy."""
        for name, variable in self._variables.items():
            first, second = (self._slots[f"{name}/{slot}"] for slot in optimization.SLOTS)
            arguments = (first, second, gradients[name], clipping, rate)
            decay: dict[str, Any] = {"decay": optimization.decays(name)}
            if self._strategy is None:
                optimization.apply_adam(variable, *arguments, **decay)
            else:
                self._strategy.extended.update(
                    variable, optimization.apply_adam, args=arguments, kwargs=decay, group=False
                )

    def _summed_gradients(
        self, batch: Batch, step: tf.Tensor, told: tf.Tensor
    ) -> tuple[Tensors, tf.Tensor, tf.Tensor]:
        """Returns the batch's gradients, its stacked sums, and the gradients' norm unscaled.

        Behind the sums stand how many ask to stop, and the chief's pace.

        With several devices this runs on each of them, on its share, and adds up the shares.
        """
        parts = self._parts
        replica: tf.Tensor | int = 0
        replicas = 1
        if self._strategy is not None:
            context = tf.distribute.get_replica_context()
            replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
        divided = {
            name: tf.reshape(
                values, [replicas * parts, values.shape[0] // (replicas * parts), *values.shape[1:]]
            )
            for name, values in batch.items()
        }
        lm_denominator = masked_lm_denominator(batch["masked_lm_weights"])
        batch_size = tf.cast(tf.shape(batch["input_ids"])[0], tf.float32)
        weights = {name: tf.convert_to_tensor(value) for name, value in self._variables.items()}
        scale = tf.convert_to_tensor(self._loss_scale.value)

        def of_part(part: tf.Tensor | int) -> tuple[Tensors, tf.Tensor]:
            index = replica * parts + part
            place = (step * _PARTS_PER_STEP + tf.cast(index, tf.int64)) * _SITES_PER_PART
            own = {name: tf.gather(values, index) for name, values in divided.items()}
            gradients = partial(
                self._model.gradients,
                weights,
                own,
                lm_denominator=lm_denominator,
                batch_size=batch_size,
                dropout_seed=tf.stack([tf.constant(self._random_seed, tf.int64), place]),
                loss_scale=scale,
            )
            # Devices may take different branches here: nothing in them may wait for another one.
            return by_shape(own["input_mask"], self._shapes, lambda shape: gradients(packed=shape))

        gradients, sums = _added_up(of_part, parts)
        if self._strategy is not None:
            told = tf.stack([told[0], tf.where(replica == 0, told[1], 0.0)])
        sums = tf.concat([sums, told], axis=0)
        if self._strategy is not None:
            names = list(gradients)
            *totals, sums = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [*(gradients[name] for name in names), sums]
            )
            gradients = dict(zip(names, totals, strict=True))
        norm = optimization.global_norm(gradients) / scale
        if self._strategy is not None:
            # Unequal processors round it differently, and it decides whether all go on and by how
            # much the weights move: it is the chief's everywhere.
            norm = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(replica == 0, norm, 0.0))
        return gradients, sums, norm


def _added_up(
    of_part: Callable[[tf.Tensor | int], tuple[Tensors, tf.Tensor]], parts: int
) -> tuple[Tensors, tf.Tensor]:
    """Returns gradients and stacked sums of all parts, holding those of one part beside them."""
    gradients, sums = of_part(0)
    if parts == 1:
        return gradients, sums
    names = list(gradients)

    def add(
        part: tf.Tensor, totals: list[tf.Tensor], counted: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        more, more_sums = of_part(part)
        added = [total + more[name] for name, total in zip(names, totals, strict=True)]
        return part + 1, added, counted + more_sums

    _, totals, counted = tf.while_loop(
        lambda part, *_: part < parts,
        add,
        (1, [gradients[name] for name in names], sums),
        parallel_iterations=1,
    )
    return dict(zip(names, totals, strict=True)), counted
