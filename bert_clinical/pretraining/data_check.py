"""Compares what the data's sidecars say with what a run expects, before anything else is done."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.tfrecords.digests import Digests
from bert_clinical.tfrecords.sidecars import believed_sidecar
from bert_clinical.tokenization import load_vocab
from bert_clinical.weights.provenance import as_object
from bert_clinical.weights.transformers_tokenizer import VOCAB_FILE
from bert_clinical.wordpieces.vocabulary import case_mismatch, fits, require_case_of_release
from data_prep.common.errors import UserError


def require_fitting_sidecars(
    paths: Iterable[str],
    options: TrainingOptions,
    config: BertConfig,
    config_path: str,
    init_checkpoint: str | None = None,
    digests: Digests | None = None,
) -> dict[str, Any]:
    """Returns the sidecars by path, of those files that have one.

    Args:
      paths: the TFRecord files.
      options: with the lengths that the run expects.
      config: the model.
      config_path: where it was read, for errors.
      init_checkpoint: what training begins with, a path as the user named it.
      digests: of the files, as far as they are known.

    Raises:
      UserError: the data was made with other lengths, with a vocabulary of another size or casing
        than the model's, or not all of it alike.
    """
    digests = digests or Digests()
    sidecars: dict[str, Any] = {}
    for path in paths:
        sidecar = believed_sidecar(path, digests)
        if sidecar is None:
            continue
        made_with = as_object(sidecar.get("flags"))
        for name in ("max_seq_length", "max_predictions_per_seq"):
            found, expected = made_with.get(name), getattr(options, name)
            if found is not None and found != expected:
                raise UserError(
                    f"{path}: was made with --{name}={found}, and this run has "
                    f"--{name}={expected}; they must be the same"
                )
        size = _vocabulary_size(sidecar)
        if size is not None and not fits(size, config.vocab_size):
            raise UserError(
                f"{path}: was made with a vocabulary of {size:,} entries, and vocab_size of "
                f"{config_path} is {config.vocab_size:,}; use the model's own vocabulary"
            )
        if init_checkpoint is not None:
            _require_case_of_model(path, made_with.get("do_lower_case"), init_checkpoint)
        for other, description in sidecars.items():
            cases = [as_object(d.get("flags")).get("do_lower_case") for d in (sidecar, description)]
            if None not in cases and cases[0] != cases[1]:
                raise UserError(
                    f"{path}: was made with --do_lower_case={cases[0]}, and {other} with "
                    f"--do_lower_case={cases[1]}; make all data with the same casing"
                )
            vocabularies = [_vocabulary_digest(d) for d in (sidecar, description)]
            if None not in vocabularies and vocabularies[0] != vocabularies[1]:
                raise UserError(
                    f"{path}: was made with another vocabulary file (by its SHA-256) than {other}; "
                    "make all data with the model's own vocabulary"
                )
        sidecars[path] = sidecar
    return sidecars


def _require_case_of_model(path: str, do_lower_case: Any, init_checkpoint: str) -> None:
    """Refuses data whose casing is not that of the model that training begins with.

    A vocabulary beside the checkpoint tells the model's casing, and so do the folders' names of
    Google's released models.
    """
    if not isinstance(do_lower_case, bool):
        return
    try:
        require_case_of_release(do_lower_case, init_checkpoint)
    except UserError as error:
        raise UserError(f"{path}: the casing of its examples is not the model's: {error}") from None
    folder = Path(init_checkpoint)
    vocab_file = (folder if folder.is_dir() else folder.parent) / VOCAB_FILE
    if not vocab_file.is_file():
        return
    mismatch = case_mismatch(load_vocab(vocab_file), do_lower_case)
    if mismatch is not None:
        raise UserError(
            f"{path}: was made with --do_lower_case={do_lower_case}, but in the model's vocabulary "
            f"{vocab_file} {mismatch}; make the data with --do_lower_case={not do_lower_case} and "
            "this vocabulary"
        )


def _vocabulary_digest(sidecar: dict[str, Any]) -> Any:
    return as_object(sidecar.get("vocabulary")).get("sha256")


def _vocabulary_size(sidecar: dict[str, Any]) -> int | None:
    size = as_object(sidecar.get("vocabulary")).get("entries", sidecar.get("vocab_size"))
    return size if isinstance(size, int) else None
