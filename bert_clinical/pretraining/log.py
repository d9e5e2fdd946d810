"""What a run shows while it goes on: lines, a bar, JSON lines, TensorBoard, curves."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.curves import draw_curves
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.step import METRICS
from data_prep.common import atomic_files
from data_prep.common.progress import format_seconds

_log = logging.getLogger(__name__)

LOG_NAME = "training_log.jsonl"
CURVES_NAME = "training_curves.png"
TENSORBOARD_FOLDER = "tensorboard"

_SECONDS_BETWEEN_CURVES = 60.0


class TrainingLog:
    """Collects the metrics of every step and shows their means every `log_every` steps.

    A run that goes on from a checkpoint keeps the lines up to its step and drops the later ones,
    which it will write again.

    Args:
      output_dir: the run's folder.
      options: the settings; `log_every` is the period.
      first_step: where the run goes on.
    """

    def __init__(self, output_dir: Path, *, options: TrainingOptions, first_step: int) -> None:
        self._options = options
        self._path = output_dir / LOG_NAME
        self._curves_path = output_dir / CURVES_NAME
        self._history = _read_history(self._path, first_step)
        _write_history(self._path, self._history)
        self._lines = self._path.open("a", encoding="utf-8")
        self._summaries = tf.summary.create_file_writer(str(output_dir / TENSORBOARD_FOLDER))
        self._rows: list[np.ndarray] = []
        self._window_begin = time.monotonic()
        self._first_step, self._begin = first_step, self._window_begin
        self._curves_drawn = 0.0
        self._bar = _bar(first_step, options.num_train_steps)

    def steps(self, first: int, rows: np.ndarray, seconds: float) -> None:
        """Takes the metrics of steps that were made.

        Args:
          first: the number of steps made before them.
          rows: float32 [steps, len(METRICS)].
          seconds: how long they took together.
        """
        for index, row in enumerate(rows):
            self._rows.append(row)
            step = first + index + 1
            if step % self._options.log_every == 0 or step == self._options.num_train_steps:
                # Steps of one call have no times of their own: each has an even share.
                self._write(step, time.monotonic() - seconds * (1 - (index + 1) / len(rows)))
        if self._bar is not None:
            self._bar.update(len(rows))

    def _write(self, step: int, now: float) -> None:
        options = self._options
        means = np.mean(np.array(self._rows, np.float64), axis=0)
        values = dict(zip(METRICS, means.tolist(), strict=True))
        for name in ("learning_rate", "loss_scale"):
            values[name] = float(self._rows[-1][METRICS.index(name)])
        seconds = max(now - self._window_begin, 1e-9)
        values["examples_per_second"] = options.train_batch_size * len(self._rows) / seconds
        values["tokens_per_second"] = values["examples_per_second"] * options.max_seq_length
        self._rows, self._window_begin = [], now
        self._record(step, "training", values)
        left = (now - self._begin) / (step - self._first_step) * (options.num_train_steps - step)
        if self._bar is not None:
            # Short, so that a terminal of 120 columns shows all of it.
            self._bar.set_postfix_str(
                f"LM {values['masked_lm_loss']:.3f} {values['masked_lm_accuracy']:.1%}, "
                f"NSP {values['next_sentence_loss']:.3f} {values['next_sentence_accuracy']:.1%}, "
                f"lr {values['learning_rate']:.2g}, {values['tokens_per_second']:,.0f} tokens/s",
                refresh=False,
            )
            return
        _log.info(
            "step %s of %s: loss %.4f (masked LM %.4f, accuracy %.4f; next sentence %.4f, "
            "accuracy %.4f), learning rate %.3g, %s tokens/s, %s left",
            f"{step:,}", f"{options.num_train_steps:,}", values["loss"], values["masked_lm_loss"],
            values["masked_lm_accuracy"], values["next_sentence_loss"],
            values["next_sentence_accuracy"], values["learning_rate"],
            f"{values['tokens_per_second']:,.0f}", format_seconds(left),
        )  # fmt: skip

    def held_out(self, step: int, values: Mapping[str, Any]) -> None:
        """Takes the results of an evaluation on held-out data."""
        numbers = {name: float(value) for name, value in values.items()}
        self._record(step, "held_out", numbers)
        _log.info(
            "step %s, held out: loss %.4f (masked LM %.4f, accuracy %.4f; next sentence %.4f, "
            "accuracy %.4f)", f"{step:,}", numbers["loss"], numbers["masked_lm_loss"],
            numbers["masked_lm_accuracy"], numbers["next_sentence_loss"],
            numbers["next_sentence_accuracy"],
        )  # fmt: skip

    def saved(self, step: int, prefix: str) -> None:
        """Takes note of a checkpoint; what was logged is then on the disk too."""
        _log.info("step %s: saved %s", f"{step:,}", prefix)
        self._summaries.flush()
        at_end = step == self._options.num_train_steps
        if at_end or time.monotonic() - self._curves_drawn >= _SECONDS_BETWEEN_CURVES:
            draw_curves(self._history, self._curves_path)
            self._curves_drawn = time.monotonic()

    def _record(self, step: int, kind: str, values: dict[str, float]) -> None:
        record = {"step": step, "kind": kind, **values}
        self._history.append(record)
        self._lines.write(_json_line(record))
        self._lines.flush()
        with self._summaries.as_default():
            for name, value in values.items():
                _write_scalar(f"{kind}/{name}", value, step)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._summaries.close()
        if self._bar is not None:
            self._bar.close()


class SilentLog:
    """A `TrainingLog` of workers that write nothing."""

    def __init__(self, output_dir: Path, *, options: TrainingOptions, first_step: int) -> None:
        del output_dir, options, first_step

    def steps(self, first: int, rows: np.ndarray, seconds: float) -> None:
        """Takes nothing down."""

    def held_out(self, step: int, values: Mapping[str, Any]) -> None:
        """Takes nothing down."""

    def saved(self, step: int, prefix: str) -> None:
        """Takes nothing down."""

    def __enter__(self) -> SilentLog:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _bar(first_step: int, total: int) -> Any:
    """Returns a progress bar where there is a terminal, else None."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm(total=total, initial=first_step, unit=" steps", dynamic_ncols=True)


def _read_history(path: Path, last_step: int) -> list[dict[str, Any]]:
    """Returns the records up to a step; a last line that a kill cut short is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            if number < len(lines):
                _log.info("%s: line %d is not JSON and is dropped", path, number)
            continue
        if isinstance(record, dict) and record.get("step", last_step + 1) <= last_step:
            records.append(record)
    return records


def _write_history(path: Path, records: list[dict[str, Any]]) -> None:
    with atomic_files.atomic_write(path, "w") as stream:
        stream.writelines(map(_json_line, records))


def _json_line(record: Mapping[str, Any]) -> str:
    # JSON knows no infinity: a float16 overflow stands as null.
    finite = {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in record.items()
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
