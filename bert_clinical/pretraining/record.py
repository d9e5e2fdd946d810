"""What a run says of itself in `pretraining_run.json` and `eval_results.txt`."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_clinical import __version__
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.evaluation import RESULTS, perplexity
from bert_clinical.weights.checkpoint import resolve_checkpoint
from bert_clinical.weights.provenance import (
    PARENT,
    RUN_FILE,
    TRAINING_FILES,
    WEIGHTS,
    canaries_in,
    checkpoint_fingerprint,
    read_run,
)
from data_prep.common import atomic_files
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

RESULTS_NAME = "eval_results.txt"


class RunRecord:
    """The record of a training: flags, versions, model, data, and how it went.

    Args:
      output_dir: the run's folder.
      config: the model.
      flags: by name, `gelu` among them.
      sidecars: what is known of how the data was made, by file.
      training_files: those that are trained on; the others are held out.

    Attributes:
      parent: what `parent_of` tells of the checkpoint that the weights began from; None where they
        were random.
    """

    def __init__(
        self,
        output_dir: Path,
        config: BertConfig,
        flags: Mapping[str, Any],
        sidecars: Mapping[str, Any],
        training_files: Sequence[str],
    ) -> None:
        self.parent: dict[str, Any] | None = None
        self._path = output_dir / RUN_FILE
        self._origin = {
            "gelu": flags["gelu"],
            "flags": dict(flags),
            "bert_config": config.to_dict(),
            "data": dict(sidecars),
            TRAINING_FILES: list(training_files),
            **canaries_in(sidecars.values()),
        }

    def write(self, facts: Mapping[str, Any]) -> None:
        """Writes the record of the steps made so far.

        Args:
          facts: `steps`, `checkpoint` and how the training went.
        """
        parent = {PARENT: self.parent} if self.parent else {}
        atomic_files.write_json(self._path, {**_program(), **self._origin, **parent, **facts})


def is_another(checkpoint: str, parent: Mapping[str, Any]) -> bool:
    """Tells whether a checkpoint is there and not the one that a record calls the parent.

    Args:
      checkpoint: a prefix, an .index file or a folder, as `--init_checkpoint` takes them.
      parent: as `parent_of` gave it.
    """
    try:
        found = checkpoint_fingerprint(resolve_checkpoint(checkpoint))
    except UserError:
        # A run that goes on does not need it any more.
        return False
    return found != parent.get("fingerprint")


def write_evaluation(
    output_dir: Path, checkpoint: str, results: Mapping[str, Mapping[str, Any]]
) -> None:
    """Writes `eval_results.txt` as Google's program does, and puts the results into the record.

    Of several sets the first is Google's; each other has a file of its own. The record keeps what
    it says of training. An evaluation alone adds nothing to that: its flags are not those that the
    weights came from.

    Args:
      output_dir: the run's folder.
      checkpoint: the prefix of what was evaluated.
      results: of each set, by the names of `RESULTS`.
    """
    evaluations: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        path = output_dir / RESULTS_NAME
        if evaluations:
            path = path.with_stem(f"{path.stem}_{name}")
        with atomic_files.atomic_write(path, "w") as stream:
            for key in sorted(RESULTS):
                _log.info("  %s = %s", key, result[key])
                # The form of Google's `str()`: the shortest digits of a float32.
                stream.write(f"{key} = {result[key]!s}\n")
        _log.info(
            "  perplexity of the masked LM: %.4g", perplexity(float(result["masked_lm_loss"]))
        )
        numbers = {key: result[key].item() for key in RESULTS}
        evaluations[name] = {
            "checkpoint": Path(checkpoint).name,
            WEIGHTS: checkpoint_fingerprint(checkpoint),
            **numbers,
        }
    first = next(iter(evaluations.values()))
    record = {**(read_run(output_dir) or _program()), "evaluation": first}
    if any(evaluations):
        record["evaluations"] = evaluations
    atomic_files.write_json(output_dir / RUN_FILE, record)


def _program() -> dict[str, Any]:
    return {
        "program": "run_pretraining",
        "versions": {
            "bert_clinical": __version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
    }
