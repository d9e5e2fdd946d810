"""A run of pretraining as one object: its folder, and all that is written there.

    training_flags.json                                    settings.py
    model.ckpt-N, checkpoint                               state.py
    best_checkpoint.json                                   best.py
    pretraining_run.json                                   record.py
    training_log.jsonl, tensorboard, training_curves.png   log.py, curves.py
    data_index.npz, unpacked, workers                      ../tfrecords/index.py
    data_digests.json                                      ../tfrecords/digests.py

Whatever a checkpoint's weights came from is in the folder before the checkpoint is: a kill leaves
no checkpoint of which settings and record are not known.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import devices
from bert_clinical.pretraining.batches import PretrainingData
from bert_clinical.pretraining.best import LOSS, Best, best_of_folder, best_of_log, write_best
from bert_clinical.pretraining.curves import draw_curves
from bert_clinical.pretraining.errors import translated_errors
from bert_clinical.pretraining.evaluation import RESULTS
from bert_clinical.pretraining.log import CURVES_NAME, TrainingLog, read_history
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.record import RunRecord, is_another
from bert_clinical.pretraining.settings import (
    decisive_settings,
    require_same_settings,
    write_settings,
)
from bert_clinical.pretraining.speed import Speed
from bert_clinical.pretraining.state import (
    checkpoint_prefix,
    keep_newest,
    latest_checkpoint_of_all,
    new_state,
    remove_unfinished_checkpoints,
    require_checkpoint_of_run,
)
from bert_clinical.pretraining.step import METRICS
from bert_clinical.pretraining.worker_agreement import WorkerAgreement
from bert_clinical.weights import checkpoint
from bert_clinical.weights.provenance import (
    BEST_FILE,
    PARENT,
    as_object,
    checkpoint_fingerprint,
    parent_of,
    read_run,
)
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)


class Run:
    """A run between its steps: where it stands, and what it leaves in its folder.

    Of several workers each has one, and calls the same methods after the same steps; the chief's
    alone writes.

    Args:
      output_dir: the run's folder; exists.
      config: the model.
      options: the settings.
      data: the examples.
      held_out: names of the sets to evaluate on; the first decides which checkpoint is the best.
      flags: of the program, for the record; the settings if None.
      sidecars: what is known of how the data was made, by file, for the record.
      agreement: of several workers. None for a process alone.
      strategy: of several devices. None for one device.

    Attributes:
      state: weights, slots and step.
      latest: the prefix of the latest checkpoint; None before the first.
      last_metrics: those of the last step by name; empty before the first of this start.
      last_held_out: the last results on the first set by name; empty before the first.
      gave_up: the loss on held-out data has not become better for as long as it may.
    """

    def __init__(
        self,
        *,
        output_dir: Path,
        config: BertConfig,
        options: TrainingOptions,
        data: PretrainingData,
        held_out: Sequence[str] = (),
        flags: Mapping[str, Any] | None = None,
        sidecars: Mapping[str, Any] | None = None,
        agreement: WorkerAgreement | None = None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.output_dir = output_dir
        self.config = config
        self.options = options
        self.data = data
        self.agreement = agreement or WorkerAgreement()
        self.strategy = strategy
        self.latest: str | None = None
        self.last_metrics: dict[str, float] = {}
        self.last_held_out: dict[str, Any] = {}
        self.gave_up = False
        self._held_out = tuple(held_out)
        self._best = Best(self._held_out[0] if self._held_out else "")
        self._speed: Speed | None = None
        files = [file.path for file in data.files]
        self._settings = decisive_settings(options, config, files)
        self._record = RunRecord(
            output_dir, config, flags or options.to_dict(), sidecars or {}, files
        )
        self._log: TrainingLog | None = None
        self._facts: dict[str, Any] = {"examples": data.records, "held_out": {}}
        self.state = new_state(config, options, strategy)

    def begin(self, init_checkpoint: str | None) -> None:
        """Goes back to the latest checkpoint, else to `init_checkpoint`, else to random weights."""
        if self.agreement.is_chief:
            remove_unfinished_checkpoints(self.output_dir)
        self.latest = latest_checkpoint_of_all(self.output_dir, self.agreement)
        if self.latest is None and self.agreement.has_others:
            content = init_checkpoint and checkpoint_fingerprint(init_checkpoint)
            self.agreement.require_same({"--init_checkpoint": content})
        with self.agreement.together():
            if self.latest is not None:
                self.state.restore(self.latest)
                ignored = "; --init_checkpoint is not read" if init_checkpoint else ""
                _log.info("Going on from %s at step %d%s", self.latest, self.state.step, ignored)
            elif init_checkpoint is not None:
                self.state.initialize_from(init_checkpoint)
            else:
                _log.info("Starting from random weights (no --init_checkpoint)")
            if self.agreement.is_chief:
                self._record.parent = self._parent(init_checkpoint)
                self._recall_evaluations()
                if self.latest is not None:
                    self._make_up_for_a_kill(self.latest)
        self.gave_up = self.agreement.of_chief(self._is_hopeless())

    def _parent(self, init_checkpoint: str | None) -> dict[str, Any] | None:
        """Returns what the record is to say of the checkpoint that this run began from."""
        if self.latest is None:
            return parent_of(init_checkpoint) if init_checkpoint else None
        began = as_object(read_run(self.output_dir).get(PARENT))
        if began and init_checkpoint and is_another(init_checkpoint, began):
            _log.warning(
                "This run began from %s (step %s, %s), and --init_checkpoint is another by now; to "
                "train on from that, choose another --output_dir",
                began.get("checkpoint"), began.get("step"), began.get("fingerprint"),
            )  # fmt: skip
        return began or None

    def _recall_evaluations(self) -> None:
        """Takes up what earlier starts found on held-out data."""
        if not self._held_out:
            self._best = best_of_folder(self.output_dir)
            return
        history = read_history(self.output_dir, self.state.step)
        self._best = best_of_log(history, self._held_out[0], self._has_checkpoint)
        if self._best.step:
            # A kill may have come between the checkpoint and this file.
            self._write_best()
        self._tell_held_out(
            {
                line.get("set", ""): {name: line[name] for name in RESULTS if name in line}
                for line in history
                if line["kind"] == "held_out"
            }
        )

    def _make_up_for_a_kill(self, latest: str) -> None:
        """Does what may have been left undone after the latest checkpoint was written."""
        if self._best.step or not (self.output_dir / BEST_FILE).exists():
            keep = self.options.keep_checkpoint_max
            keep_newest(self.output_dir, latest, keep, best_step=self._best.step)
        # A run that goes on draws its curves later.
        curves = self.output_dir / CURVES_NAME
        if self.state.step >= self.options.num_train_steps and not (
            curves.exists() and curves.stat().st_mtime >= Path(f"{latest}.index").stat().st_mtime
        ):
            draw_curves(read_history(self.output_dir, self.state.step), curves)

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Keeps the log of the steps that are made within."""
        if not self.agreement.is_chief:
            yield
            return
        step = self.state.step
        peak = devices.peak_flops(self.options.precision, self.strategy)
        self._speed = Speed(self.config, self.options, first_step=step, peak_flops=peak)
        with TrainingLog(
            self.output_dir, options=self.options, first_step=step, speed=self._speed
        ) as log:
            self._log = log
            yield

    def made(self, rows: np.ndarray, input_mask: np.ndarray, *, broken_off: bool) -> None:
        """Takes down steps that were made.

        Args:
          rows: their metrics, float32 [steps, len(METRICS)].
          input_mask: of their batches, int32 [steps, B, S].
          broken_off: the last of them was no good.

        Raises:
          UserError: the loss is no longer finite.
        """
        self.last_metrics = dict(zip(METRICS, map(float, rows[-1]), strict=True))
        if broken_off or not self._is_well():
            last = self.state.step + len(rows) - 1
            # So it is for all workers.
            with self.agreement.together():
                raise self._failure(last, "the loss or its gradient is no finite number")
        if self._log is not None and self._speed is not None:
            work = self._speed.of_call(self.state.step, input_mask[: len(rows)])
            self._log.steps(self.state.step, rows, work)
        self.state.step += len(rows)

    def _is_well(self) -> bool:
        """Tells whether training can go on; with float16 an overflow is not the end."""
        if self.state.loss_scale.dynamic and self.last_metrics["loss_scale"] > 1:
            return True
        return all(math.isfinite(self.last_metrics[name]) for name in ("loss", "gradient_norm"))

    def _failure(self, step: int, what: str) -> UserError:
        metrics = self.last_metrics
        good = self.latest or "none; the run had not saved any yet"
        return UserError(
            f"step {step}: {what} (loss {metrics['loss']:g}, gradient norm "
            f"{metrics['gradient_norm']:g}, learning rate {metrics['learning_rate']:g}); nothing "
            f"was saved since the last good checkpoint: {good}; try a lower --learning_rate or "
            "more --num_warmup_steps"
        )

    def evaluate(self, evaluate: Callable[[str], Mapping[str, Any]]) -> bool:
        """Evaluates on held-out data; tells whether this is the best so far.

        Args:
          evaluate: returns the results on the set of a name.
        """
        is_best = False
        with self.chief_at_work():
            if self.agreement.is_chief:
                results = {name: evaluate(name) for name in self._held_out}
                is_best = self._take_down(results)
        is_best, self.gave_up = self.agreement.of_chief([is_best, self._is_hopeless()])
        if self._speed is not None:
            self._speed.resume()
        return bool(is_best)

    def _take_down(self, results: Mapping[str, Mapping[str, Any]]) -> bool:
        first = self._held_out[0]
        self.last_held_out = dict(results[first])
        self._tell_held_out(
            {
                name: {key: float(value) for key, value in result.items()}
                for name, result in results.items()
            }
        )
        if self._log is not None:
            self._log.held_out(self.state.step, results)
        return self._best.add(self.state.step, float(results[first][LOSS]))

    def _tell_held_out(self, numbers: Mapping[str, Mapping[str, float]]) -> None:
        """Has the record say the last results on each set."""
        self._facts["held_out"] = dict(numbers.get(self._held_out[0], {}))
        if len(self._held_out) > 1:
            self._facts["held_out_sets"] = {
                name: dict(numbers[name]) for name in self._held_out if name in numbers
            }

    def _is_hopeless(self) -> bool:
        return 0 < self.options.stop_after_no_gain <= self._best.without_gain

    def save(self, stopped_by: int) -> None:
        """Writes settings, record and a checkpoint, in this order.

        Args:
          stopped_by: the signal after which the run ends here, 0 for none.

        Raises:
          UserError: the weights are no good, or the disk is full; the older checkpoints stay.
        """
        prefix = checkpoint_prefix(self.output_dir, self.state.step)
        with self.chief_at_work():
            if self.agreement.is_chief:
                self._write(prefix, stopped_by)
        self.latest = prefix

    def _write(self, prefix: str, stopped_by: int) -> None:
        if not self.state.is_sound():
            what = "the update has made weights too large to go on with"
            raise self._failure(self.state.step - 1, what)
        write_settings(self.output_dir, self._settings)
        self._record.write(
            {
                "steps": self.state.step,
                "checkpoint": Path(prefix).name,
                **self._facts,
                **({"best": self._best.facts(self._best_prefix)} if self._best.step else {}),
                "final": self.last_metrics,
                "speed": self._speed.overall(self.state.step) if self._speed else {},
                "stopped_by_signal": stopped_by,
                "stopped_without_gain": self.gave_up,
            }
        )
        self.state.save(self.output_dir)
        if self._best.step == self.state.step:
            self._write_best()
        keep_newest(
            self.output_dir, prefix, self.options.keep_checkpoint_max, best_step=self._best.step
        )
        if self._log is not None and self._speed is not None:
            self._log.saved(self.state.step, prefix, at_end=bool(stopped_by) or self.gave_up)
            self._speed.resume()

    def _has_checkpoint(self, step: int) -> bool:
        return Path(f"{checkpoint_prefix(self.output_dir, step)}.index").exists()

    @property
    def _best_prefix(self) -> str:
        return checkpoint_prefix(self.output_dir, self._best.step)

    def _write_best(self) -> None:
        write_best(self.output_dir, self._best, self._best_prefix)

    @contextmanager
    def chief_at_work(self) -> Iterator[None]:
        """Has the other workers wait for the chief, as long as it takes, and end if it fails."""
        with self.agreement.together(), translated_errors(self.options):
            yield


def require_same_run(
    output_dir: Path, options: TrainingOptions, config: BertConfig, input_files: list[str]
) -> None:
    """Checks that the run in a folder, if there is one, can go on with these settings.

    Raises:
      UserError: it came from other settings, or the folder holds a model and no run.
    """
    latest = checkpoint.latest_checkpoint(output_dir)
    if latest is not None:
        require_checkpoint_of_run(latest)
        settings = decisive_settings(options, config, input_files)
        require_same_settings(output_dir, settings, checkpoint.checkpoint_step(latest))
