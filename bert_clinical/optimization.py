"""Google's optimizer for BERT: AdamW without bias correction, warm-up, linear decay, clipping."""

from __future__ import annotations

from collections.abc import Mapping

from bert_clinical.nn.tensorflow import tf

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-6
WEIGHT_DECAY_RATE = 0.01
CLIP_NORM = 1.0
NO_DECAY = ("LayerNorm", "layer_norm", "bias")
"""A variable whose name holds one of these does not decay."""

SLOTS = ("adam_m", "adam_v")


def decays(name: str) -> bool:
    """Tells whether weight decay applies to the variable of that name."""
    return not any(part in name for part in NO_DECAY)


def learning_rate_at(
    step: tf.Tensor, *, learning_rate: float, num_train_steps: int, num_warmup_steps: int
) -> tf.Tensor:
    """Returns the rate of the update made at `step`, float32 [].

    Args:
      step: int64 [], the number of updates made before.
      learning_rate: the rate that warm-up leads to and decay starts from, at step 0.
      num_train_steps: where the linear decay reaches 0.
      num_warmup_steps: below it the rate is `learning_rate * step / num_warmup_steps`.

    Source: google-research/bert optimization.py; the same float32 operations in the same order.
    """
    rate = tf.constant(learning_rate, tf.float32)
    done = tf.cast(tf.minimum(step, num_train_steps), tf.float32)
    decayed = rate * (1.0 - done / tf.constant(num_train_steps, tf.float32))
    if not num_warmup_steps:
        return decayed
    warming = rate * (tf.cast(step, tf.float32) / tf.constant(num_warmup_steps, tf.float32))
    return tf.where(step < num_warmup_steps, warming, decayed)


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


def apply_adam(
    variable: tf.Variable,
    first: tf.Variable,
    second: tf.Variable,
    gradient: tf.Tensor,
    gradient_scale: tf.Tensor,
    learning_rate: tf.Tensor,
    *,
    decay: bool,
) -> None:
    """Updates a variable and its slots once.

    Args:
      variable: float32.
      first: its slot `adam_m`.
      second: its slot `adam_v`.
      gradient: float32 of the same shape.
      gradient_scale: float32 [], multiplied into the gradient: the clipping.
      learning_rate: float32 [].
      decay: whether the weights decay, as `decays` tells.
    """
    gradient = gradient * gradient_scale
    next_first = BETA_1 * first + (1.0 - BETA_1) * gradient
    next_second = BETA_2 * second + (1.0 - BETA_2) * tf.square(gradient)
    update = next_first / (tf.sqrt(next_second) + EPSILON)
    if decay:
        update += WEIGHT_DECAY_RATE * variable
    variable.assign(variable - learning_rate * update)
    first.assign(next_first)
    second.assign(next_second)
