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

from absl import flags

from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.pretraining.request import checked_request
from bert_clinical.pretraining.worker_cluster import DEFAULT_TIMEOUT_SECONDS
from data_prep.common import program, settings_flags
from data_prep.common.errors import UsageError
from data_prep.common.program import ProgramFlags


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
    switch("do_eval", "Evaluate the latest checkpoint; without --do_train, --init_checkpoint.")
    setting(
        "train_batch_size", "eval_batch_size", "learning_rate", "num_train_steps",
        "num_warmup_steps", "save_checkpoints_steps", "iterations_per_loop", "max_eval_steps",
    )  # fmt: skip
    settings_flags.define_tpu_flags(values)
    values.section("The run")
    setting("learning_rate_schedule", "decay_steps", "keep_checkpoint_max", "random_seed")
    string(
        "eval_input_file",
        "Held-out TFRecord files, or named sets of them: all=a*.tfrecord,radiology=b.tfrecord. The "
        "first set decides which checkpoint is the best. Without it --do_eval reads --input_file.",
    )
    setting("eval_every", "stop_after_no_gain", "log_every")
    switch("allow_flag_changes", "Go on with a run although flags that matter differ.")
    flags.DEFINE_float(
        "worker_timeout_seconds", DEFAULT_TIMEOUT_SECONDS,
        "How long the workers of TF_CONFIG or of a SLURM job wait for one another at the start.",
        lower_bound=1, flag_values=values,
    )  # fmt: skip
    values.section("Model, speed and memory")
    switch("plan", "Print what the run would need in memory and time; train nothing.")
    switch("measure", "With --plan: make a few steps, and say how long the run would take.")
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


def main(values: ProgramFlags) -> int:
    """Checks flags and inputs, then trains and evaluates."""
    _check_flags(values)
    options = settings_flags.read(values, TrainingOptions)
    request = checked_request(options, values.as_dict())
    from bert_clinical.pretraining import start

    if values.plan:
        return start.plan(request, values.device_memory_gb, measure=values.measure)
    program.show_times()
    return start.run(request)


def _check_flags(values: ProgramFlags) -> None:
    """Raises `UsageError` for flags that can never go together."""
    settings_flags.refuse_tpu_flags(values)
    if not (values.do_train or values.do_eval or values.plan):
        raise UsageError("neither --do_train nor --do_eval is given; give at least one of them")
    if values.measure and not values.plan:
        raise UsageError("--measure goes with --plan; add it")
    if values.train_batch_size % values.gradient_accumulation_steps:
        raise UsageError(
            f"--train_batch_size={values.train_batch_size} cannot be divided into "
            f"--gradient_accumulation_steps={values.gradient_accumulation_steps} equal parts"
        )
    if not 0 < values.learning_rate < float("inf"):
        raise UsageError(f"--learning_rate is {values.learning_rate}; expected a number above 0")
    decays_at_end = values.learning_rate_schedule == "one_minus_sqrt"
    if decays_at_end and not 1 <= values.decay_steps <= values.num_train_steps:
        raise UsageError(
            f"--learning_rate_schedule=one_minus_sqrt needs --decay_steps from 1 to "
            f"--num_train_steps={values.num_train_steps}"
        )
    if values.decay_steps and not decays_at_end:
        raise UsageError("--decay_steps goes with --learning_rate_schedule=one_minus_sqrt")
    if values.eval_every and not values.eval_input_file:
        raise UsageError("--eval_every needs --eval_input_file")
    if values.stop_after_no_gain and not values.eval_every:
        raise UsageError("--stop_after_no_gain needs --eval_every and --eval_input_file")


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
