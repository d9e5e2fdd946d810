"""A fine-tuning program after its flags are checked: reads, trains, measures, writes."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bert_clinical.tasks import folder as task_folder
from bert_clinical.tasks.checkpoints import (
    TrainingFolder,
    digest_of_examples,
    digest_of_weights,
)
from bert_clinical.tasks.data import Encoded
from bert_clinical.tasks.options import TaskRequest
from bert_clinical.weights.model_flags import require_positions
from bert_clinical.weights.pretrained import PretrainedModel
from data_prep.common.errors import UserError
from data_prep.common.stopping import Stopped, StopRequest, stop_on_signals

if TYPE_CHECKING:
    from bert_clinical.tasks.model import TaskModel
    from bert_clinical.tasks.training import FineTuned

_log = logging.getLogger(__name__)

_TEST_DATA = "file of test data"


@dataclass(frozen=True)
class Part:
    """One part of a task's data.

    Attributes:
      name: "train", "dev" or "test".
      path: its file.
      examples: what was read.
      labelled: whether there are labels to compare with.
    """

    name: str
    path: Path
    examples: Sequence[Any] = field(repr=False)
    labelled: bool


@dataclass(frozen=True)
class Measured:
    """What a part's evaluation gave.

    Attributes:
      metrics: numbers by name, without prefix; empty where there are no labels.
      details: what else the results file says.
      table: lines for the user.
      files: lines of prediction files by name.
    """

    metrics: Mapping[str, float]
    details: Mapping[str, Any]
    table: Sequence[str]
    files: Mapping[str, Sequence[str]]


class Task(ABC):
    """What is particular to a program."""

    program: str
    architecture: str
    metric: str
    per_token: bool
    sum_loss: bool = False

    @abstractmethod
    def read(self, name: str, *, labelled: bool) -> Part:
        """Reads the part "train", "dev" or "test"."""

    @abstractmethod
    def labels(self, train: Part) -> list[str]:
        """Returns the labels that a model is to learn, in the order of their numbers."""

    @abstractmethod
    def check_labels(self, part: Part, labels: Sequence[str]) -> None:
        """Raises `UserError` if a part cannot be measured with a model of these labels."""

    @abstractmethod
    def encode(self, part: Part, model: PretrainedModel, labels: Sequence[str]) -> list[Any]:
        """Returns a part's inputs."""

    @abstractmethod
    def inputs(self, encoded: Sequence[Any]) -> list[Encoded]:
        """Returns what goes through the model, of what `encode` returned."""

    @abstractmethod
    def measure(
        self,
        part: Part,
        encoded: Sequence[Any],
        logits: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> Measured:
        """Compares answers with labels."""


def run_task(request: TaskRequest, task: Task) -> int:
    """Reads, trains, measures, writes: the whole of a program; returns its exit status."""
    model_dir = _model_dir(request)
    task_folder.require_output(request.output_dir, task.program, model_dir=model_dir)
    train = task.read("train", labelled=True) if request.do_train else None
    dev = task.read("dev", labelled=True) if request.do_eval else None
    test = task.read("test", labelled=False) if request.do_predict else None
    if model_dir is not None:
        found = task_folder.load_fine_tuned(
            model_dir,
            task.architecture,
            do_lower_case=request.model.do_lower_case,
            check_case=request.model.check_case,
        )
        model, labels = found.pretrained, list(found.labels)
    else:
        _require_transformers_folder(request.model.model_dir)
        model = request.model.load()
        labels = [] if train is None else task.labels(train)
    require_positions(request.options.max_seq_length, model)
    if not task.per_token and not model.has_pooler():
        _log.info("%s: has no pooler; training starts it afresh.", model.source)
    for part in (train, dev, test):
        if part is not None:
            task.check_labels(part, labels)
    with stop_on_signals() as stop:
        return _Run(request, task, model, labels, stop).finish(train, dev, test)


@dataclass
class _Run:
    """A run whose inputs are read and checked."""

    request: TaskRequest
    task: Task
    model: PretrainedModel
    labels: list[str]
    stop: StopRequest

    def finish(self, train: Part | None, dev: Part | None, test: Part | None) -> int:
        """Trains if there is something to train on, measures and writes."""
        parts = [part for part in (train, dev, test) if part is not None]
        encoded = {part.name: self.task.encode(part, self.model, self.labels) for part in parts}
        self._require_segments(encoded)
        output_dir = self.request.output_dir
        run = {} if train is None else self._identity(encoded)
        if self.request.keep_finished and task_folder.holds_run(output_dir, run):
            TrainingFolder(output_dir, run).remove_what_is_left(self.task.program)
            _log.info("%s is complete.", output_dir)
            return 0
        # Not before it is needed: it brings TensorFlow.
        from bert_clinical.tasks.model import TaskModel

        network = TaskModel(
            self.model.config, self.model.weights, num_labels=len(self.labels),
            per_token=self.task.per_token, gelu=self.model.gelu,
            random_seed=self.request.options.random_seed, sum_loss=self.task.sum_loss,
            skip_padding=self.request.options.skip_padding,
        )  # fmt: skip
        try:
            if train is None:
                self._write_results(*self._measured(network, dev, test, encoded))
            else:
                self._train_and_write(network, dev, test, encoded, run)
        except Stopped as stopped:
            goes_on = "; the same command goes on from there" if train else ""
            _log.info("Stopped by signal %d%s.", stopped.exit_status - 128, goes_on)
            return stopped.exit_status
        _log.info("Wrote %s.", output_dir)
        return 0

    def _train_and_write(
        self,
        network: TaskModel,
        dev: Part | None,
        test: Part | None,
        encoded: Mapping[str, Sequence[Any]],
        run: dict[str, Any],
    ) -> None:
        """Trains, measures and writes; what an end in between leaves is gone on from."""
        of_training = {name: value for name, value in run.items() if name != _TEST_DATA}
        folder = TrainingFolder(self.request.output_dir, of_training)
        with folder.held(self.task.program):
            done = self._train(network, dev, encoded, folder)
            try:
                results, files = self._measured(network, dev, test, encoded)
            except Stopped:
                folder.write(done.progress, network.variables)
                raise
            results = {**self._of_training(done), **results}
            self._write_model(network, results, files, run)
            folder.remove()

    def _identity(self, encoded: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Returns what decides how a training goes, and what its model is tried on."""
        kept = {
            f"--{name}": value
            for name, value in asdict(self.request.options).items()
            if name != "pad_to_max_seq_length"
        }
        return {
            **kept,
            "--task_name": self.request.task_name,
            "set of labels": self.labels,
            "way to learn": [self.task.per_token, self.task.sum_loss],
            "model": digest_of_weights(self.model.weights),
            "form of GELU": self.model.gelu,
            **{
                f"file of {name} data": digest_of_examples(self.task.inputs(part))
                for name, part in encoded.items()
            },
        }

    def _require_segments(self, encoded: Mapping[str, Sequence[Any]]) -> None:
        """Raises `UserError` if the model knows fewer segments than the inputs have."""
        segments = max(
            max(example.segment_ids)
            for part in encoded.values()
            for example in self.task.inputs(part)
        )
        known = self.model.config.type_vocab_size
        if segments >= known:
            raise UserError(
                f"{self.model.source}: type_vocab_size is {known}, expected at least "
                f"{segments + 1} for pairs of sentences"
            )

    def _train(
        self,
        network: TaskModel,
        dev: Part | None,
        encoded: Mapping[str, Sequence[Any]],
        folder: TrainingFolder,
    ) -> FineTuned:
        from bert_clinical.tasks import training

        task = self.task
        done = training.fine_tune(
            model=network,
            examples=task.inputs(encoded["train"]),
            options=self.request.options,
            evaluate=(
                (lambda: self._measure(network, dev, encoded["dev"]).metrics) if dev else None
            ),
            metric=task.metric,
            folder=folder,
            save_every=self.request.save_checkpoints_steps,
            stop=self.stop,
        )
        if dev is not None:
            _log.info("Epoch %d is the best by %s on the dev data.", done.best.number, task.metric)
        return done

    def _of_training(self, done: FineTuned) -> dict[str, Any]:
        """Returns what the results say of a training."""
        options = {
            **asdict(self.request.options), "gelu": self.model.gelu, "model": self.model.source,
        }  # fmt: skip
        return {**_of_training(done), "hyperparameters": options}

    def _measured(
        self,
        network: TaskModel,
        dev: Part | None,
        test: Part | None,
        encoded: Mapping[str, Sequence[Any]],
    ) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        """Measures and predicts; returns results and lines of files."""
        results: dict[str, Any] = {"task_name": self.request.task_name, "labels": self.labels}
        files: dict[str, Sequence[str]] = {}
        for part, prefix in ((dev, "eval"), (test, "test")):
            if part is None:
                continue
            measured = self._measure(network, part, encoded[part.name])
            files |= measured.files
            if measured.metrics:
                results |= {f"{prefix}_{name}": value for name, value in measured.metrics.items()}
                results[part.name] = {"examples": len(part.examples), **measured.details}
                _log.info("Results on the %s data:", part.name)
                for line in measured.table:
                    _log.info("%s", line)
        return results, files

    def _measure(self, network: TaskModel, part: Part, encoded: Sequence[Any]) -> Measured:
        from bert_clinical.tasks import training

        request, task = self.request, self.task
        inputs = task.inputs(encoded)
        size = request.predict_batch_size if part.name == "test" else request.eval_batch_size
        logits = training.predict(network, inputs, size, self.stop)
        measured = task.measure(part, encoded, logits, self.labels)
        if not part.labelled:
            return measured
        loss = {"loss": training.mean_loss(inputs, logits)}
        if math.isnan(loss["loss"]):
            # None of the labels is one that the model knows.
            return measured
        return Measured(
            {**measured.metrics, **loss}, measured.details, measured.table, measured.files
        )

    def _write_model(
        self,
        network: TaskModel,
        results: dict[str, Any],
        files: dict[str, Sequence[str]],
        run: dict[str, Any],
    ) -> None:
        from bert_clinical.tasks.model import HEAD_DROPOUT

        output_dir = self.request.output_dir
        record = {
            "gelu": self.model.gelu, "do_lower_case": self.model.do_lower_case,
            task_folder.RUN: run,
        }  # fmt: skip
        with task_folder.new_folder(output_dir, self.task.program, record) as folder:
            task_folder.write_model(
                folder, architecture=self.task.architecture, config=self.model.config,
                gelu=self.model.gelu, tokens=self.model.tokens, rules=self.model.rules,
                max_length=self._max_length(), labels=self.labels,
                weights={name: value.numpy() for name, value in network.variables.items()},
                dropout=HEAD_DROPOUT,
            )  # fmt: skip
            task_folder.write_results(folder, results, files)

    def _max_length(self) -> int:
        """Returns the longest sequence that the model has been trained on by now."""
        if self.model.trained_length is None:
            return self.model.config.max_position_embeddings
        return max(self.model.trained_length, self.request.options.max_seq_length)

    def _write_results(self, results: dict[str, Any], files: dict[str, Sequence[str]]) -> None:
        output_dir = self.request.output_dir
        if task_folder.is_fine_tuned(output_dir):
            task_folder.write_results(output_dir, results, files)
            return
        record = {"model": self.model.source}
        with task_folder.new_folder(output_dir, self.task.program, record) as folder:
            task_folder.write_results(folder, results, files)


def _of_training(done: FineTuned) -> dict[str, Any]:
    return {
        "best_epoch": done.best.number,
        "global_step": done.best.step,
        "loss": done.best.train_loss,
        "epochs": [
            {
                "epoch": epoch.number,
                "global_step": epoch.step,
                "train_loss": epoch.train_loss,
                **{f"eval_{name}": value for name, value in epoch.metrics.items()},
            }
            for epoch in done.epochs
        ],
    }


def _require_transformers_folder(path: str | None) -> None:
    if path is not None and not (Path(path) / task_folder.CONFIG_FILE).is_file():
        raise UserError(
            f"--transformers_dir: {path} holds no {task_folder.CONFIG_FILE}; expected a folder of "
            "transformers, or --init_checkpoint, --bert_config_file and --vocab_file"
        )


def _model_dir(request: TaskRequest) -> Path | None:
    """Returns the folder of the fine-tuned model that is to be evaluated, None if one is trained.

    Differs: Google's program evaluates a new layer of random weights where nothing was trained.
    """
    if request.do_train:
        return None
    folder = Path(request.model.model_dir or request.output_dir)
    if not task_folder.is_fine_tuned(folder):
        raise UserError(
            f"{folder}: holds no fine-tuned model to evaluate; give --do_train, or one in "
            "--transformers_dir"
        )
    return folder
