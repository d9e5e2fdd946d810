"""Google's optimizer for BERT: AdamW without bias correction, warm-up, linear decay, clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bert_clinical.nn.tensorflow import tf

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-6
WEIGHT_DECAY_RATE = 0.01
CLIP_NORM = 1.0
NO_DECAY = ("LayerNorm", "layer_norm", "bias")
"""A variable whose name holds one of these does not decay."""

SLOTS = ("adam_m", "adam_v")

_LARGE = 1 << 16
"""Values from which on an update compiled by XLA saves more than its call costs."""


def decays(name: str) -> bool:
    """Tells whether weight decay applies to the variable of that name."""
    return not any(part in name for part in NO_DECAY)


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step.

    Attributes:
      learning_rate: the rate that warm-up leads to.
      num_train_steps: of the whole run; where a decay ends at 0.
      num_warmup_steps: below it the rate is `learning_rate * step / num_warmup_steps`.
      kind: "linear" decays from step 0 on, as Google's; "constant" holds the rate; "one_minus_sqrt"
        holds it and decays at the end.
      decay_steps: how many of the last steps "one_minus_sqrt" decays in.
    """

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: int
    kind: str = "linear"
    decay_steps: int = 0

    def rate_at(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of the update made at `step`, float32 [].

        Args:
          step: int64 [], the number of updates made before.

        Source: google-research/bert optimization.py; the same float32 operations in the same order.
        """
        rate = tf.constant(self.learning_rate, tf.float32)
        after_warmup = rate * self._left(step)
        if not self.num_warmup_steps:
            return after_warmup
        share = tf.cast(step, tf.float32) / tf.constant(self.num_warmup_steps, tf.float32)
        return tf.where(step < self.num_warmup_steps, rate * share, after_warmup)

    def _left(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the share of the rate that the decay has left at a step, float32 []."""
        if self.kind == "constant":
            return tf.ones([])
        begin, count = 0, self.num_train_steps
        if self.kind == "one_minus_sqrt":
            begin, count = self.num_train_steps - self.decay_steps, self.decay_steps
        step = tf.clip_by_value(step, begin, self.num_train_steps)
        done = tf.cast(step - begin, tf.float32) / tf.constant(count, tf.float32)
        return 1.0 - (tf.sqrt(done) if self.kind == "one_minus_sqrt" else done)

    def is_same_until(self, step: int, other: Schedule) -> bool:
        """Tells whether the steps before `step` have the rates of another schedule."""
        if self == other:
            return True
        warm_up = (self.learning_rate, self.num_warmup_steps)
        if warm_up != (other.learning_rate, other.num_warmup_steps):
            return False
        return step <= min(self._held_until(), other._held_until())

    def _held_until(self) -> float:
        """Returns before which step the rate depends on warm-up alone."""
        if self.kind == "constant":
            return math.inf
        if self.kind == "one_minus_sqrt":
            return self.num_train_steps - self.decay_steps
        return self.num_warmup_steps


def create_slots(variables: Mapping[str, tf.Variable]) -> dict[str, tf.Variable]:
    """Returns zero slots `<name>/adam_m` and `<name>/adam_v` for every variable."""
    return {
        f"{name}/{slot}": tf.Variable(
            tf.zeros(variable.shape), name=f"{name}/{slot}", trainable=False
        )
        for name, variable in variables.items()
        for slot in SLOTS
    }


def global_norm(gradients: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns the Euclidean norm of all gradients together, float32 []; NaN if any holds one."""
    return tf.sqrt(tf.add_n([2.0 * tf.nn.l2_loss(gradient) for gradient in gradients.values()]))


def clip_scale(norm: tf.Tensor) -> tf.Tensor:
    """Returns what gradients of that norm are multiplied by; NaN for a norm that is none."""
    scale = CLIP_NORM / tf.maximum(norm, CLIP_NORM)
    return tf.where(tf.math.is_finite(norm), scale, tf.constant(float("nan")))


def bias_corrections(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what the moments of the update made at `step` are too small by, float32 [] each.

    Args:
      step: int64 [], the number of updates made before.

    Source: Adam (Kingma and Ba 2015), as PyTorch's AdamW has it.
    Differs: Google's optimizer for BERT leaves it out, which costs in short runs (Zhang et al.
      2021, "Revisiting Few-sample BERT Fine-tuning").
    """
    count = tf.cast(step + 1, tf.float64)
    first, second = (
        1.0 - tf.pow(tf.constant(beta, tf.float64), count) for beta in (BETA_1, BETA_2)
    )
    return tf.cast(first, tf.float32), tf.cast(second, tf.float32)


def apply_adam(
    variable: tf.Variable,
    first: tf.Variable,
    second: tf.Variable,
    gradient: tf.Tensor,
    gradient_scale: tf.Tensor,
    learning_rate: tf.Tensor,
    *,
    decay: bool,
    corrections: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> None:
    """Updates a variable and its slots once.

    Memory bounds it. On a CPU large variables are updated by compiled code, which passes over them
    once instead of for each operation.

    Args:
      variable: float32.
      first: its slot `adam_m`.
      second: its slot `adam_v`.
      gradient: float32 of the same shape.
      gradient_scale: float32 [], multiplied into the gradient: the clipping.
      learning_rate: float32 [].
      decay: whether the weights decay, as `decays` tells.
      corrections: as `bias_corrections` gives them; None for Google's optimizer.
    """
    compiled = variable.shape.num_elements() >= _LARGE and "GPU" not in variable.device
    update = _compiled_adam if compiled else _adam
    arguments = (variable, first, second, gradient, gradient_scale, learning_rate)
    update(*arguments, decay=decay, corrections=corrections)


def _adam(
    variable: tf.Variable,
    first: tf.Variable,
    second: tf.Variable,
    gradient: tf.Tensor,
    gradient_scale: tf.Tensor,
    learning_rate: tf.Tensor,
    *,
    decay: bool,
    corrections: tuple[tf.Tensor, tf.Tensor] | None,
) -> None:
    gradient = gradient * gradient_scale
    next_first = BETA_1 * first + (1.0 - BETA_1) * gradient
    next_second = BETA_2 * second + (1.0 - BETA_2) * tf.square(gradient)
    if corrections is None:
        update = next_first / (tf.sqrt(next_second) + EPSILON)
    else:
        of_first, of_second = corrections
        update = next_first / of_first / (tf.sqrt(next_second / of_second) + EPSILON)
    if decay:
        update += WEIGHT_DECAY_RATE * variable
    variable.assign(variable - learning_rate * update)
    first.assign(next_first)
    second.assign(next_second)


_compiled_adam = tf.function(_adam, autograph=False, jit_compile=True)
