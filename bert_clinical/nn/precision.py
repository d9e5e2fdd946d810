"""Mixed precision: what is computed in which type, and the scale of float16 losses."""

from __future__ import annotations

from collections.abc import Callable

from bert_clinical.nn.tensorflow import tf

_FIRST_SCALE = 2.0**15
_GROWTH_INTERVAL = 2000


def compute_dtype(precision: str) -> tf.DType:
    """Returns the type of products and activations.

    Raises:
      ValueError: `precision` is not one of "float32", "mixed_bfloat16" and "mixed_float16".
    """
    types = {
        "float32": tf.float32,
        "mixed_bfloat16": tf.bfloat16,
        "mixed_float16": tf.float16,
    }
    if precision not in types:
        raise ValueError(f"precision is {precision!r}, expected one of {sorted(types)}")
    return types[precision]


class LossScale:
    """The factor that keeps small float16 gradients from vanishing; 1 in other precisions.

    With float16 an update whose gradients overflow is left out and the factor halved; after 2,000
    good steps it is doubled. Only when it is down to 1 an overflow ends the training.

    Args:
      dynamic: for float16.
    """

    def __init__(self, *, dynamic: bool) -> None:
        self.dynamic = dynamic
        self.value = tf.Variable(_FIRST_SCALE if dynamic else 1.0, trainable=False)
        self.good_steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def variables(self) -> dict[str, tf.Variable]:
        """Returns what a checkpoint must hold for a run to go on, by name."""
        if not self.dynamic:
            return {}
        return {"loss_scale": self.value, "loss_scale_good_steps": self.good_steps}

    def guard(self, finite: tf.Tensor, update: Callable[[], None]) -> tf.Tensor:
        """Makes the update if it may be made, adapts the scale, and returns whether to go on.

        Without scaling the update is made in any case: the run ends at once and nothing is saved,
        which costs less than a condition around every update.
        """
        if not self.dynamic:
            update()
            return finite

        def good() -> tf.Tensor:
            update()
            grows = self.good_steps + 1 >= _GROWTH_INTERVAL
            self.value.assign(tf.where(grows, self.value * 2.0, self.value))
            self.good_steps.assign(tf.where(grows, tf.zeros([], tf.int64), self.good_steps + 1))
            return tf.constant(True)

        def overflow() -> tf.Tensor:
            may_shrink = self.value > 1.0
            self.value.assign(tf.maximum(self.value / 2.0, 1.0))
            self.good_steps.assign(0)
            return may_shrink

        return tf.cond(finite, good, overflow)
