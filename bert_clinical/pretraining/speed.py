"""How fast a run goes, and how long it will still take; knows no TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.flops import training_flops
from bert_clinical.pretraining.options import TrainingOptions
from data_prep.common.progress import format_rate, format_seconds


class Speed:
    """Examples, real WordPieces (no padding) and operations a second, and the time left.

    The first call, which compiles, counts only where there is no other. Waiting for the input
    counts; evaluations and checkpoints count in the time left alone.

    Args:
      config: the model.
      options: the settings.
      first_step: where the run goes on.
      peak_flops: operations a second that all devices could make; None if it is not known.
    """

    def __init__(
        self,
        config: BertConfig,
        options: TrainingOptions,
        *,
        first_step: int,
        peak_flops: float | None,
    ) -> None:
        self._config = config
        self._options = options
        self._peak_flops = peak_flops
        self._first_call: np.ndarray | None = None
        self._whole = np.zeros(4)
        self._mark = time.monotonic()
        self._steady_since, self._steady_step = self._mark, first_step

    def of_call(self, first: int, input_mask: np.ndarray) -> np.ndarray:
        """Returns what each step of a call did, float64 [steps, 5].

        Columns are examples, WordPieces, operations, seconds, and whether the call was not the
        first. Steps of one call have no times of their own: each has an even share.

        Args:
          first: the number of steps made before.
          input_mask: of the steps that were made, int32 [steps, B, S].
        """
        now = time.monotonic()
        steps, examples = input_mask.shape[:2]
        flops = training_flops(self._config, input_mask, self._options.max_predictions_per_seq)
        work = np.empty((steps, 5))
        work[:, 0] = examples
        work[:, 1] = input_mask.sum(axis=(1, 2))
        work[:, 2] = flops
        work[:, 3] = (now - self._mark) / steps
        work[:, 4] = self._first_call is not None
        if self._first_call is None:
            self._first_call = work[:, :4].sum(axis=0)
            self._steady_since, self._steady_step = now, first + steps
        else:
            self._whole += work[:, :4].sum(axis=0)
        self._mark = now
        return work

    def resume(self) -> None:
        """Lets the time of the next call begin: something else than steps has been done."""
        self._mark = time.monotonic()

    def of(self, work: np.ndarray, step: int) -> dict[str, float]:
        """Returns the rates of some steps, and the seconds that are left after `step`."""
        counted = work[work[:, 4] > 0]
        return self._rates((counted if len(counted) else work)[:, :4].sum(axis=0), step)

    def overall(self, step: int) -> dict[str, float]:
        """Returns the rates of all steps since the start, and the seconds left after `step`."""
        if self._first_call is None:
            return {}
        return self._rates(self._whole if self._whole[0] else self._first_call, step)

    def _rates(self, sums: np.ndarray, step: int) -> dict[str, float]:
        examples, tokens, flops, seconds = (float(value) for value in sums)
        seconds = max(seconds, 1e-9)
        rates = {"examples_per_second": examples / seconds, "tokens_per_second": tokens / seconds}
        if self._peak_flops is not None:
            rates["mfu"] = flops / seconds / self._peak_flops
        left = self._options.num_train_steps - step
        made = step - self._steady_step
        if made > 0:
            rates["seconds_left"] = (time.monotonic() - self._steady_since) / made * left
        else:
            rates["seconds_left"] = seconds / (examples / self._options.train_batch_size) * left
        return rates


def speed_text(values: Mapping[str, float]) -> str:
    """Returns what a line of the log says of the speed."""
    mfu = f"{values['mfu']:.1%} of the peak, " if "mfu" in values else ""
    return (
        f"{format_rate(values['examples_per_second'])} examples/s, "
        f"{format_rate(values['tokens_per_second'])} tokens/s, {mfu}"
        f"{format_seconds(values['seconds_left'])} left"
    )
