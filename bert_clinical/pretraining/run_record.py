"""What a run of run_pretraining leaves about itself beside its checkpoints, and what it says."""

from __future__ import annotations

import json
import logging
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_clinical import __version__
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining import devices
from bert_clinical.pretraining.evaluation import RESULTS
from bert_clinical.pretraining.loop import TrainingResult
from bert_clinical.pretraining.memory_plan import plan_memory
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.weights.provenance import canaries_in
from data_prep.common import atomic_files

_log = logging.getLogger(__name__)

RECORD_NAME = "pretraining_run.json"
RESULTS_NAME = "eval_results.txt"


def announce(options: TrainingOptions, config: BertConfig, records: int, files: int) -> None:
    """Says what is about to be trained, on what, and what it takes."""
    _log.info(
        "Devices: %s; precision %s%s; gelu %s", ", ".join(devices.names()), options.precision,
        ", compiled by XLA" if options.jit_compile else "", options.gelu,
    )  # fmt: skip
    plan = plan_memory(config, options)
    passes = options.num_train_steps * options.train_batch_size / records
    _log.info(
        "Plan: %s parameters, about %.2f GB; %s examples in %d file(s), %s steps of %d are %.2f "
        "passes",
        f"{plan.parameters:,}", plan.total / 1e9, f"{records:,}", files,
        f"{options.num_train_steps:,}", options.train_batch_size, passes,
    )  # fmt: skip


def announce_end(
    result: TrainingResult, flags: Any, sidecars: Mapping[str, Any], output_dir: Path
) -> None:
    """Says where the model lies and how to convert it, as far as the data tells."""
    made_with = [sidecar.get("flags", {}) for sidecar in sidecars.values()]

    def common(name: str, unknown: str) -> str:
        found = {str(values.get(name, unknown)) for values in made_with}
        return shlex.quote(found.pop()) if len(found) == 1 else unknown

    _log.info("Trained to step %d: %s", result.step, result.checkpoint)
    _log.info(
        "To convert it: python -m bert_clinical.convert_to_transformers --init_checkpoint=%s "
        "--bert_config_file=%s --gelu=%s --vocab_file=%s --do_lower_case=%s "
        "--output_dir=%s",
        shlex.quote(result.checkpoint), shlex.quote(flags.bert_config_file), flags.gelu,
        common("vocab_file", "VOCAB"), common("do_lower_case", "BOOL"),
        shlex.quote(f"{output_dir}/transformers"),
    )  # fmt: skip


def of_training(result: TrainingResult, records: int) -> dict[str, Any]:
    """Returns what the record says of a training run."""
    return {
        "steps": result.step,
        "checkpoint": Path(result.checkpoint).name,
        "examples": records,
        "final": result.last_metrics,
        "held_out": {name: float(value) for name, value in result.held_out.items()},
        "stopped_by_signal": result.stopped_by,
    }


def write(
    output_dir: Path,
    flags: Mapping[str, Any],
    config: BertConfig,
    sidecars: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Writes `pretraining_run.json`: flags, versions, data, and how the run went."""
    atomic_files.write_json(
        output_dir / RECORD_NAME,
        {
            "program": "run_pretraining",
            "versions": {
                "bert_clinical": __version__,
                "tensorflow": tf.__version__,
                "python": platform.python_version(),
            },
            "gelu": flags["gelu"],
            "flags": dict(flags),
            "bert_config": config.to_dict(),
            "data": dict(sidecars),
            **canaries_in(sidecars.values()),
            **record,
        },
    )


def add_evaluation(
    output_dir: Path,
    flags: Mapping[str, Any],
    config: BertConfig,
    sidecars: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Puts an evaluation alone into `pretraining_run.json`; what it says of training stays."""
    path = output_dir / RECORD_NAME
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        earlier = {}
    if "steps" in earlier:
        atomic_files.write_json(path, {**earlier, **record})
    else:
        write(output_dir, flags, config, sidecars, record)


def write_evaluation(output_dir: Path, results: Mapping[str, Any]) -> None:
    """Writes `eval_results.txt` as Google's program does, and shows it."""
    with atomic_files.atomic_write(output_dir / RESULTS_NAME, "w") as stream:
        for name in sorted(RESULTS):
            _log.info("  %s = %s", name, results[name])
            # The form of Google's `str()`: the shortest digits of a float32.
            stream.write(f"{name} = {results[name]!s}\n")
