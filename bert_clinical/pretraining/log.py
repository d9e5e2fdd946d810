"""What a run shows while it goes on: lines, a bar, JSON lines, TensorBoard, curves."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.nn.tensorflow import tf, writing
from bert_clinical.pretraining.curves import draw_curves
from bert_clinical.pretraining.evaluation import perplexity
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.speed import Speed, speed_text
from bert_clinical.pretraining.step import METRICS
from data_prep.common import atomic_files
from data_prep.common.progress import format_rate, terminal_bar

_log = logging.getLogger(__name__)

LOG_NAME = "training_log.jsonl"
CURVES_NAME = "training_curves.png"
TENSORBOARD_FOLDER = "tensorboard"

_SECONDS_BETWEEN_CURVES = 60.0
_SECONDS_BETWEEN_LINES = 30.0


class TrainingLog:
    """Collects the metrics of every step and shows their means every `log_every` steps.

    Where there is no terminal it also says the first step, and something every 30 s. A run that
    goes on from a checkpoint keeps the lines up to its step and drops the later ones, which it
    will write again.

    Args:
      output_dir: the run's folder.
      options: the settings; `log_every` is the period.
      first_step: where the run goes on.
      speed: of the run.
    """

    def __init__(
        self, output_dir: Path, *, options: TrainingOptions, first_step: int, speed: Speed
    ) -> None:
        self._options = options
        self._speed = speed
        self._path = output_dir / LOG_NAME
        self._curves_path = output_dir / CURVES_NAME
        self._history = read_history(output_dir, first_step)
        _write_history(self._path, self._history)
        self._lines = self._path.open("a", encoding="utf-8")
        self._summaries_path = output_dir / TENSORBOARD_FOLDER
        with writing(self._summaries_path):
            self._summaries = tf.summary.create_file_writer(str(self._summaries_path))
        self._rows: list[np.ndarray] = []
        self._work: list[np.ndarray] = []
        self._said: float | None = None
        self._curves_drawn = 0.0
        self._bar = terminal_bar("steps", total=options.num_train_steps, done=first_step)

    def steps(self, first: int, rows: np.ndarray, work: np.ndarray) -> None:
        """Takes steps that were made.

        Args:
          first: the number of steps made before them.
          rows: their metrics, float32 [steps, len(METRICS)].
          work: what they did, as `Speed.of_call` tells.
        """
        for step, (row, done) in enumerate(zip(rows, work, strict=True), first + 1):
            self._rows.append(row)
            self._work.append(done)
            if step % self._options.log_every == 0 or step == self._options.num_train_steps:
                values = self._values(step)
                self._rows, self._work = [], []
                self._record(step, "training", values)
                self._show(step, values)
        if self._bar is not None:
            self._bar.update(len(rows))
        elif self._rows and (
            self._said is None or time.monotonic() - self._said > _SECONDS_BETWEEN_LINES
        ):
            step = first + len(rows)
            self._show(step, self._values(step))

    def _values(self, step: int) -> dict[str, float]:
        """Returns the means of the steps since the last line, and the speed."""
        means = np.mean(np.array(self._rows, np.float64), axis=0)
        values = dict(zip(METRICS, means.tolist(), strict=True))
        for name in ("learning_rate", "loss_scale"):
            values[name] = float(self._rows[-1][METRICS.index(name)])
        return {**_with_perplexity(values), **self._speed.of(np.array(self._work), step)}

    def _show(self, step: int, values: Mapping[str, float]) -> None:
        self._said = time.monotonic()
        if self._bar is not None:
            # Short, so that a terminal of 120 columns shows all of it.
            self._bar.set_postfix_str(
                f"LM {values['masked_lm_loss']:.3f} {values['masked_lm_accuracy']:.1%}, "
                f"NSP {values['next_sentence_loss']:.3f} {values['next_sentence_accuracy']:.1%}, "
                f"lr {values['learning_rate']:.2g}, {format_rate(values['tokens_per_second'])} "
                "tokens/s",
                refresh=False,
            )
            return
        _log.info(
            "step %s of %s: %s, learning rate %.3g, %s", f"{step:,}",
            f"{self._options.num_train_steps:,}", _losses(values), values["learning_rate"],
            speed_text(values),
        )  # fmt: skip

    def held_out(self, step: int, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes the results of an evaluation on held-out data, by the names of the sets."""
        for name, result in results.items():
            values = _with_perplexity({key: float(value) for key, value in result.items()})
            self._record(step, "held_out", values, name)
            named = f" ({name})" if name else ""
            _log.info("step %s, held out%s: %s", f"{step:,}", named, _losses(values))

    def saved(self, step: int, prefix: str, *, at_end: bool) -> None:
        """Takes note of a checkpoint; what was logged is then on the disk too.

        Args:
          step: the number of steps made.
          prefix: of the checkpoint.
          at_end: the run ends here.
        """
        _log.info("step %s: saved %s", f"{step:,}", prefix)
        with writing(self._summaries_path):
            self._summaries.flush()
        at_end = at_end or step == self._options.num_train_steps
        if at_end or time.monotonic() - self._curves_drawn >= _SECONDS_BETWEEN_CURVES:
            draw_curves(self._history, self._curves_path)
            self._curves_drawn = time.monotonic()

    def _record(self, step: int, kind: str, values: Mapping[str, float], name: str = "") -> None:
        of_set = {"set": name} if name else {}
        line = {"step": step, "kind": kind, **of_set, **values}
        self._history.append(line)
        with atomic_files.naming(self._path):
            self._lines.write(_json_line(line))
            self._lines.flush()
        tag = f"{kind}/{name}" if name else kind
        with writing(self._summaries_path), self._summaries.as_default():
            for key, value in values.items():
                _write_scalar(f"{tag}/{key}", value, step)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        # What they could not write was told, or comes again in the next run.
        with contextlib.suppress(OSError):
            self._lines.close()
        with contextlib.suppress(tf.errors.OpError):
            self._summaries.close()
        if self._bar is not None:
            self._bar.close()


def read_history(output_dir: Path, last_step: int) -> list[dict[str, Any]]:
    """Returns a run's log up to a step; a last line that a kill cut short is passed over."""
    path = output_dir / LOG_NAME
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    history = []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            if number < len(lines):
                _log.info("%s: line %d is not JSON and is dropped", path, number)
            continue
        if _is_of_log(line) and line["step"] <= last_step:
            history.append(line)
    return history


def _is_of_log(line: Any) -> bool:
    """Tells whether a line of JSON is one that a log can hold."""
    if not isinstance(line, dict) or not {"step", "kind"} <= set(line):
        return False
    return isinstance(line["step"], int) and all(
        isinstance(value, str) if name in ("kind", "set") else isinstance(value, int | float | None)
        for name, value in line.items()
    )


def _with_perplexity(values: Mapping[str, float]) -> dict[str, float]:
    return {**values, "masked_lm_perplexity": perplexity(values["masked_lm_loss"])}


def _losses(values: Mapping[str, float]) -> str:
    return (
        f"loss {values['loss']:.4f} (masked LM {values['masked_lm_loss']:.4f}, perplexity "
        f"{values['masked_lm_perplexity']:.4g}, accuracy {values['masked_lm_accuracy']:.4f}; next "
        f"sentence {values['next_sentence_loss']:.4f}, accuracy "
        f"{values['next_sentence_accuracy']:.4f})"
    )


def _write_history(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with atomic_files.atomic_write(path, "w") as stream:
        stream.writelines(map(_json_line, lines))


def _json_line(line: Mapping[str, Any]) -> str:
    # JSON knows no infinity: a float16 overflow stands as null.
    finite = {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in line.items()
    }
    return json.dumps(finite) + "\n"


def _write_scalar(name: str, value: float, step: int) -> None:
    """Writes what TensorBoard shows as a scalar.

    `tf.summary.scalar` does the same, but only where TensorBoard itself is installed.
    """
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    metadata.data_class = 1
    tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)
