"""One start of run_pretraining: workers and signals, then training and evaluation, or the plan."""

from __future__ import annotations

import logging
import os
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bert_clinical import __version__
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import devices, evaluation, memory_plan, worker_cluster
from bert_clinical.pretraining import loop as training
from bert_clinical.pretraining.batches import PretrainingData
from bert_clinical.pretraining.errors import translated_errors
from bert_clinical.pretraining.plan import plan as plan_lines
from bert_clinical.pretraining.record import write_evaluation
from bert_clinical.pretraining.request import Request, writable_folder
from bert_clinical.pretraining.run import require_same_run
from bert_clinical.pretraining.settings import fingerprint
from bert_clinical.pretraining.worker_agreement import WorkerAgreement
from bert_clinical.weights import checkpoint
from bert_clinical.weights.provenance import (
    BEST_FILE,
    as_object,
    best_checkpoint,
    require_recorded_gelu,
)
from data_prep.common import atomic_files
from data_prep.common.stopping import StopRequest, stop_on_signals

_log = logging.getLogger(__name__)

_OWN_FLAGS = (
    "output_dir",
    "bert_config_file",
    "input_file",
    "eval_input_file",
    "init_checkpoint",
    "worker_timeout_seconds",
)
"""Paths are each machine's own. What they hold is compared, not what they are called."""


def run(request: Request) -> int:
    """Trains and evaluates; returns an exit status."""
    options, output_dir = request.options, request.output_dir
    cluster = worker_cluster.from_environment(os.environ, request.worker_timeout_seconds)
    agreement = WorkerAgreement(cluster)
    with translated_errors(options, cluster):
        # TensorFlow must know of all workers before it computes anything. With several of them it
        # takes SIGTERM for itself and drops it; hence our own handling comes after.
        strategy = devices.strategy(cluster)
    with (
        translated_errors(options, cluster),
        stop_on_signals(armed=False) as stop,
        ExitStack() as stack,
    ):
        agreement.require_same(_identity(request))
        with agreement.together():
            if agreement.is_chief and request.do_train:
                stack.enter_context(atomic_files.held(output_dir, "run_pretraining"))
                if not request.allow_flag_changes:
                    require_same_run(output_dir, options, request.config, request.input_files)
        if request.do_train:
            status = _train(request, strategy, agreement, stop)
            if status:
                return status
        if request.do_eval and agreement.is_chief:
            _evaluate(request)
    return 0


def plan(request: Request, device_memory_gb: float | None, *, measure: bool) -> int:
    """Prints what a run would need; returns an exit status.

    Args:
      request: the run.
      device_memory_gb: what it is to fit; None for this machine's device.
      measure: make a few steps.
    """
    device_memory = devices.memory()
    if device_memory_gb is not None:
        device_memory = device_memory_gb * 1e9, "a device"
    with translated_errors(request.options):
        data = _load(request, request.input_files, request.output_dir)
        for line in plan_lines(
            request.config, request.options, data, device_memory=device_memory, measure=measure
        ):
            _log.info("%s", line)
    return 0


def _identity(request: Request) -> dict[str, Any]:
    """Returns what workers must have in common before they load anything, by the names to show."""
    return {
        **{f"--{name}": value for name, value in request.flags.items() if name not in _OWN_FLAGS},
        "--bert_config_file": fingerprint(request.config.to_json_string()),
        "the version of bert-clinical": __version__,
        "the version of TensorFlow": tf.__version__,
        "the number of GPUs": len(tf.config.list_physical_devices("GPU")),
    }


def _train(request: Request, strategy: Any, agreement: WorkerAgreement, stop: StopRequest) -> int:
    """Trains, or goes on; returns an exit status."""
    chief = agreement.is_chief
    # A run that goes on reads no --init_checkpoint, which need not be there any more.
    init_checkpoint = request.init_checkpoint
    goes_on = agreement.of_chief(checkpoint.latest_checkpoint(request.output_dir)) is not None
    with agreement.together():
        if init_checkpoint and not goes_on:
            init_checkpoint = checkpoint.resolve_checkpoint(init_checkpoint)
        cache_folder = request.output_dir
        if agreement.cluster is not None and not chief:
            worker = agreement.cluster.index
            cache_folder = writable_folder(f"{request.output_dir}/workers/{worker}")
        data = _load(request, request.input_files, cache_folder)
        held_out = {}
        if request.options.eval_every:
            held_out = {
                name: _load(request, files, cache_folder)
                for name, files in request.held_out_files.items()
            }
        _announce(request, data.records)
    if agreement.has_others:
        contents = {"--input_file": data.fingerprint()}
        for name, examples in held_out.items():
            contents[f"--eval_input_file {name}".strip()] = examples.fingerprint()
        agreement.require_same(contents)
    stop.armed = True
    result = training.train(
        config=request.config, options=request.options, data=data, output_dir=request.output_dir,
        init_checkpoint=init_checkpoint, held_out=held_out, stop=stop, strategy=strategy,
        agreement=agreement, flags=request.flags, sidecars=request.sidecars,
    )  # fmt: skip
    agreement.part()
    stop.armed = False
    if result.stopped_by:
        _log.info(
            "Stopped by signal %d after step %d; the same command goes on from %s",
            result.stopped_by, result.step,
            result.checkpoint if chief else "what the first worker saves",
        )  # fmt: skip
        return 128 + result.stopped_by
    if chief:
        _announce_end(request, result)
    return 0


def _evaluate(request: Request) -> None:
    """Evaluates what was trained, or what is there; with --init_checkpoint alone, that."""
    output_dir = request.output_dir
    named = None
    if request.init_checkpoint and not request.do_train:
        named = checkpoint.resolve_checkpoint(request.init_checkpoint)
    prefix, _ = evaluation.checkpoint_to_evaluate(output_dir, named)
    if request.config.activation_name() == "gelu" and not request.allow_flag_changes:
        require_recorded_gelu(Path(prefix).parent, request.options.gelu)
    sets = request.held_out_files or {"": request.input_files}
    results = evaluation.evaluate_sets(
        config=request.config, options=request.options, output_dir=output_dir,
        sets={name: _load(request, files, output_dir) for name, files in sets.items()},
        init_checkpoint=named,
    )  # fmt: skip
    write_evaluation(output_dir, prefix, results)


def _load(request: Request, files: list[str], cache_folder: Path) -> PretrainingData:
    if cache_folder == request.output_dir:
        # By the first worker for all, who read the same folder.
        request.digests.keep()
    return PretrainingData(
        files,
        config=request.config,
        max_seq_length=request.options.max_seq_length,
        max_predictions_per_seq=request.options.max_predictions_per_seq,
        cache_folder=cache_folder,
    )


def _announce(request: Request, records: int) -> None:
    """Says what is about to be trained, on what, and what it takes."""
    options = request.options
    _log.info(
        "Devices: %s; precision %s%s; gelu %s", ", ".join(devices.names()), options.precision,
        ", compiled by XLA" if options.jit_compile else "", options.gelu,
    )  # fmt: skip
    needed = memory_plan.plan_memory(request.config, options)
    passes = options.num_train_steps * options.train_batch_size / records
    _log.info(
        "Plan: %s parameters, about %.2f GB; %s examples in %d file(s), %s steps of %d are %.2f "
        "passes",
        f"{needed.parameters:,}", needed.total / 1e9, f"{records:,}", len(request.input_files),
        f"{options.num_train_steps:,}", options.train_batch_size, passes,
    )  # fmt: skip


def _announce_end(request: Request, result: training.TrainingResult) -> None:
    """Says where the model lies and how to convert it, as far as the data tells."""
    made_with = [as_object(sidecar.get("flags")) for sidecar in request.sidecars.values()]

    def common(name: str, unknown: str) -> str:
        found = {str(values.get(name, unknown)) for values in made_with}
        return shlex.quote(found.pop()) if len(found) == 1 else unknown

    _log.info("Trained to step %d: %s", result.step, result.checkpoint)
    if (request.output_dir / BEST_FILE).is_file():
        best = best_checkpoint(request.output_dir)
        _log.info("Best on held-out data: %s (convert_to_transformers --best)", best)
    _log.info(
        "To convert it: python -m bert_clinical.convert_to_transformers --init_checkpoint=%s "
        "--bert_config_file=%s --gelu=%s --vocab_file=%s --do_lower_case=%s "
        "--output_dir=%s",
        shlex.quote(result.checkpoint), shlex.quote(request.bert_config_file),
        request.options.gelu, common("vocab_file", "VOCAB"), common("do_lower_case", "BOOL"),
        shlex.quote(f"{request.output_dir}/transformers"),
    )  # fmt: skip
