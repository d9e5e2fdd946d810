"""Pretrains BERT on masked examples, or goes on from a checkpoint; evaluates it.

Reads the TFRecords of create_pretraining_data. Writes into --output_dir checkpoints that Google's
programs read (model.ckpt-N), training_log.jsonl, training_curves.png, TensorBoard scalars, and
with --do_eval eval_results.txt. A run that was interrupted goes on when the same command is given
again: nothing but the steps since its last checkpoint is lost, and the weights come out as if it
had never stopped. SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 lose nothing: the run finishes its
step, saves and ends with 128 + the signal's number; one of several workers that gets one of them
ends all after the same step. Workers are those of TF_CONFIG, or the tasks that SLURM's srun starts.

Example:
  python -m bert_clinical.run_pretraining --bert_config_file=biobert/bert_config.json \\
    --init_checkpoint=biobert --input_file='tfrecords/*.tfrecord' --output_dir=model \\
    --do_train --do_eval --num_train_steps=150000 --learning_rate=5e-5 --gelu=erf
"""

from __future__ import annotations

import functools
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining import options as training_options
from bert_clinical.pretraining import worker_cluster
from bert_clinical.pretraining.options import TrainingOptions
from data_prep.common import atomic_files, program, settings_flags
from data_prep.common.errors import UsageError, UserError, os_error_message
from data_prep.common.input_files import find_local_files
from data_prep.common.paths import require_readable_file
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags."""
    setting = functools.partial(settings_flags.define, values, TrainingOptions)

    def string(name: str, text: str) -> None:
        flags.DEFINE_string(name, None, text, flag_values=values)

    def switch(name: str, text: str) -> None:
        flags.DEFINE_boolean(name, False, text, flag_values=values)

    values.section("As in Google's program")
    string("bert_config_file", "The model's bert_config.json. Required.")
    string("input_file", "TFRecord files, globs or folders, comma-separated; gzip too. Required.")
    string(
        "output_dir", "Where checkpoints and logs go; an unfinished run there goes on. Required."
    )
    string("init_checkpoint", "Weights to begin with: a prefix, an .index file or a folder.")
    setting("max_seq_length", "max_predictions_per_seq")
    switch("do_train", "Train.")
    switch("do_eval", "Evaluate the latest checkpoint.")
    setting(
        "train_batch_size", "eval_batch_size", "learning_rate", "num_train_steps",
        "num_warmup_steps", "save_checkpoints_steps", "iterations_per_loop", "max_eval_steps",
    )  # fmt: skip
    settings_flags.define_tpu_flags(values)
    values.section("The run")
    setting("keep_checkpoint_max", "random_seed")
    string("eval_input_file", "Held-out TFRecord files; --do_eval reads --input_file without it.")
    setting("eval_every", "log_every")
    switch("allow_flag_changes", "Go on with a run although flags that matter differ.")
    flags.DEFINE_float(
        "worker_timeout_seconds", worker_cluster.DEFAULT_TIMEOUT_SECONDS,
        "How long the workers of TF_CONFIG or of a SLURM job wait for one another at the start.",
        lower_bound=1, flag_values=values,
    )  # fmt: skip
    values.section("Model, speed and memory")
    switch("plan", "Print what the run would need in memory and time; train nothing.")
    flags.DEFINE_float(
        "device_memory_gb", None,
        "Memory that --plan is to fit, in GB; that of the GPU, else of the machine, if not given.",
        lower_bound=0, flag_values=values,
    )  # fmt: skip
    setting(
        "gelu", "precision", "gradient_accumulation_steps", "recompute_grad", "jit_compile",
        "skip_padding",
    )  # fmt: skip
    values.require("bert_config_file", "input_file", "output_dir")


@dataclass(frozen=True)
class _Job:
    """What the command line asks for, checked.

    Attributes:
      values: the flags.
      options: those of them that training and evaluation are told.
      config: the model.
      input_files: the examples to train on.
      eval_files: those to evaluate on.
      sidecars: what is known of how the files were made, by file.
      output_dir: exists and can be written.
    """

    values: ProgramFlags
    options: TrainingOptions
    config: BertConfig
    input_files: list[str]
    eval_files: list[str]
    sidecars: dict[str, Any]
    output_dir: Path


def main(values: ProgramFlags) -> int:
    """Checks flags and inputs, then trains and evaluates."""
    _check_flags(values)
    job = _checked_job(values)
    return _plan(job) if values.plan else _run(job)


def _checked_job(values: ProgramFlags) -> _Job:
    options = settings_flags.read(values, TrainingOptions)
    require_readable_file(values.bert_config_file, "bert_config_file")
    config = BertConfig.from_json_file(values.bert_config_file)
    if options.max_seq_length > config.max_position_embeddings:
        raise UserError(
            f"--max_seq_length is {options.max_seq_length}, but the model of "
            f"{values.bert_config_file} takes {config.max_position_embeddings} positions at most"
        )
    input_files = [str(path) for path in find_local_files(values.input_file, "input_file")]
    eval_files = input_files
    if values.eval_input_file:
        found = find_local_files(values.eval_input_file, "eval_input_file")
        eval_files = [str(path) for path in found]
    from bert_clinical.pretraining.data_check import require_fitting_sidecars

    sidecars = require_fitting_sidecars(
        dict.fromkeys([*input_files, *eval_files]),
        options,
        config,
        values.bert_config_file,
        values.init_checkpoint,
    )
    output_dir = _prepare_output_dir(values.output_dir)
    return _Job(values, options, config, input_files, eval_files, sidecars, output_dir)


def _check_flags(values: ProgramFlags) -> None:
    """Raises `UsageError` for flags that can never go together."""
    settings_flags.refuse_tpu_flags(values)
    if not (values.do_train or values.do_eval or values.plan):
        raise UsageError("neither --do_train nor --do_eval is given; give at least one of them")
    if values.train_batch_size % values.gradient_accumulation_steps:
        raise UsageError(
            f"--train_batch_size={values.train_batch_size} cannot be divided into "
            f"--gradient_accumulation_steps={values.gradient_accumulation_steps} equal parts"
        )
    if not 0 < values.learning_rate < float("inf"):
        raise UsageError(f"--learning_rate is {values.learning_rate}; expected a number above 0")
    if values.eval_every and not values.eval_input_file:
        raise UsageError("--eval_every needs --eval_input_file")


def _prepare_output_dir(path: str) -> Path:
    """Returns the folder for the output, which can be written."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable.partial"
        probe.touch()
        probe.unlink(missing_ok=True)
    except FileExistsError:
        raise UserError(f"--output_dir: {folder} is a file; a folder was expected") from None
    except OSError as error:
        raise UserError(f"--output_dir: {os_error_message(error)}") from None
    return folder


def _plan(job: _Job) -> int:
    """Prints what a run with these flags would need."""
    from bert_clinical.pretraining import devices, memory_plan

    if job.values.device_memory_gb is not None:
        device_bytes, device = job.values.device_memory_gb * 1e9, "a device"
    else:
        device_bytes, device = devices.memory()
    data = _load(job, job.input_files, job.output_dir)
    padding = 1 - float(data.sample_lengths().mean()) / job.options.max_seq_length
    for line in memory_plan.plan_lines(
        job.config, job.options, records=data.records, padding=padding,
        device_bytes=device_bytes, device=device,
    ):  # fmt: skip
        _log.info("%s", line)
    return 0


def _run(job: _Job) -> int:
    from bert_clinical.pretraining import devices, run_identity
    from bert_clinical.pretraining.errors import translated_errors
    from bert_clinical.pretraining.worker_agreement import WorkerAgreement
    from bert_clinical.weights import checkpoint

    cluster = worker_cluster.from_environment(os.environ, job.values.worker_timeout_seconds)
    agreement = WorkerAgreement(cluster)
    with translated_errors(job.options, cluster):
        # TensorFlow must know of all workers before it computes anything. With several of them it
        # takes SIGTERM for itself and drops it; hence our own handling comes after.
        strategy = devices.strategy(cluster)
    with translated_errors(job.options, cluster), _stop_on_signals() as stop, ExitStack() as stack:
        agreement.require_same(run_identity.at_start(job.values, job.config))
        latest = agreement.of_chief(checkpoint.latest_checkpoint(job.output_dir))
        init_checkpoint = job.values.init_checkpoint
        with agreement.together():
            if agreement.is_chief and job.values.do_train:
                stack.enter_context(atomic_files.held(job.output_dir, "run_pretraining"))
            if agreement.is_chief and latest is not None and not job.values.allow_flag_changes:
                _require_same_run(job)
            if init_checkpoint and latest is None:
                init_checkpoint = checkpoint.resolve_checkpoint(init_checkpoint)
        if job.values.do_train:
            status = _train(job, init_checkpoint, strategy, agreement, stop)
            if status:
                return status
        if job.values.do_eval and agreement.is_chief:
            _evaluate(job, init_checkpoint)
    return 0


def _require_same_run(job: _Job) -> None:
    """Checks that the run that the folder holds began with these flags."""
    if job.values.do_train:
        settings = training_options.decisive_settings(job.options, job.config, job.input_files)
        training_options.require_same_settings(job.output_dir, settings)
    else:
        training_options.require_same_gelu(job.output_dir, job.options.gelu)


def _train(job: _Job, init_checkpoint: str | None, strategy: Any, agreement: Any, stop: Any) -> int:
    """Trains, or goes on; returns an exit status."""
    from bert_clinical.pretraining import loop as training
    from bert_clinical.pretraining import run_record

    chief = agreement.is_chief
    with agreement.together():
        cache_folder = job.output_dir
        if not chief:
            worker = agreement.cluster.index
            cache_folder = _prepare_output_dir(f"{job.output_dir}/workers/{worker}")
        data = _load(job, job.input_files, cache_folder)
        held_out = None
        if job.values.eval_input_file and job.values.eval_every:
            held_out = _load(job, job.eval_files, cache_folder)
        run_record.announce(job.options, job.config, data.records, len(job.input_files))
        if chief:
            settings = training_options.decisive_settings(job.options, job.config, job.input_files)
            training_options.write_settings(job.output_dir, settings)
    if agreement.has_others:
        agreement.require_same(
            {
                "--input_file": data.fingerprint(),
                "--eval_input_file": held_out and held_out.fingerprint(),
            }
        )
    stop.armed = True
    result = training.train(
        config=job.config, options=job.options, data=data, output_dir=job.output_dir,
        init_checkpoint=init_checkpoint, held_out=held_out, stop=stop, strategy=strategy,
        agreement=agreement,
    )  # fmt: skip
    stop.armed = False
    # A run that had nothing left to do keeps the record of how it went.
    if chief and result.last_metrics:
        run_record.write(
            job.output_dir, job.values.as_dict(), job.config, job.sidecars,
            run_record.of_training(result, data.records),
        )  # fmt: skip
    if result.stopped_by:
        _log.info(
            "Stopped by signal %d after step %d; the same command goes on from %s",
            result.stopped_by, result.step,
            result.checkpoint if chief else "what the first worker saves",
        )  # fmt: skip
        return 128 + result.stopped_by
    if chief:
        run_record.announce_end(result, job.values, job.sidecars, job.output_dir)
    return 0


def _evaluate(job: _Job, init_checkpoint: str | None) -> None:
    from bert_clinical.pretraining import evaluation, run_record

    results = evaluation.evaluate(
        config=job.config, options=job.options, output_dir=job.output_dir,
        data=_load(job, job.eval_files, job.output_dir), init_checkpoint=init_checkpoint,
    )  # fmt: skip
    run_record.write_evaluation(job.output_dir, results)
    run_record.add_evaluation(
        job.output_dir, job.values.as_dict(), job.config, job.sidecars,
        {"evaluation": {name: value.item() for name, value in results.items()}},
    )  # fmt: skip


def _load(job: _Job, files: list[str], cache_folder: Path) -> Any:
    from bert_clinical.pretraining.batches import PretrainingData

    return PretrainingData(
        files,
        config=job.config,
        max_seq_length=job.options.max_seq_length,
        max_predictions_per_seq=job.options.max_predictions_per_seq,
        cache_folder=cache_folder,
    )


@contextmanager
def _stop_on_signals() -> Iterator[Any]:
    """Turns the signals that end a program into a stop after the step, while there is one."""
    from bert_clinical.pretraining.loop import StopRequest

    class Stop(StopRequest):
        armed = False

    stop = Stop()

    def handle(number: int, _: object) -> None:
        if not stop.armed or stop.signal_number:
            raise SystemExit(128 + number)
        stop.signal_number = number

    numbers = (*program.ending_signals(), signal.SIGINT)
    former = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
