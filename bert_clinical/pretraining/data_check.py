"""Compares what the data's sidecars say with what a run expects, before anything else is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.tfrecords.sidecars import read_sidecar
from data_prep.common.program import UserError


def require_fitting_sidecars(
    paths: Iterable[str], options: TrainingOptions, config: BertConfig, config_path: str
) -> dict[str, Any]:
    """Returns the sidecars by path, of those files that have one.

    Raises:
      UserError: the data was made with other lengths, with a vocabulary larger than the model's,
        or some of it lower-cased and some not.
    """
    sidecars: dict[str, Any] = {}
    for path in paths:
        sidecar = read_sidecar(path)
        if sidecar is None:
            continue
        made_with = sidecar.get("flags", {})
        for name in ("max_seq_length", "max_predictions_per_seq"):
            found, expected = made_with.get(name), getattr(options, name)
            if found is not None and found != expected:
                raise UserError(
                    f"{path}: was made with --{name}={found}, and this run has "
                    f"--{name}={expected}; they must be the same"
                )
        size = _vocabulary_size(sidecar)
        if size is not None and size > config.vocab_size:
            raise UserError(
                f"{path}: was made with a vocabulary of {size:,} entries, and vocab_size of "
                f"{config_path} is {config.vocab_size:,}; use the model's own vocabulary"
            )
        for other, description in sidecars.items():
            cases = [d.get("flags", {}).get("do_lower_case") for d in (sidecar, description)]
            if None not in cases and cases[0] != cases[1]:
                raise UserError(
                    f"{path}: was made with --do_lower_case={cases[0]}, and {other} with "
                    f"--do_lower_case={cases[1]}; make all data with the same casing"
                )
        sidecars[path] = sidecar
    return sidecars


def _vocabulary_size(sidecar: dict[str, Any]) -> int | None:
    vocabulary = sidecar.get("vocabulary", {})
    size = vocabulary.get("entries") if isinstance(vocabulary, dict) else None
    return size if size is not None else sidecar.get("vocab_size")
