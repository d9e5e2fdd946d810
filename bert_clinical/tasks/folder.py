"""The folder of a fine-tuned model: transformers files, results and predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical import __version__
from bert_clinical.nn.config import BertConfig
from bert_clinical.tasks.checkpoints import difference
from bert_clinical.weights.pretrained import PretrainedModel, load_from_transformers
from bert_clinical.weights.safetensors_files import write_weights
from bert_clinical.weights.transformers_names import to_transformers_config, transformers_name
from bert_clinical.weights.transformers_tokenizer import write_tokenizer
from bert_clinical.wordpieces.model_tokenizer import TokenizerRules
from data_prep.common.atomic_files import atomic_write, write_json
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.output_folder import (
    RECORD_FILE,
    complete_folder,
    read_record,
    require_replaceable,
)

RESULTS_FILE = "eval_results.json"
RUN = "run"
"""In the folder's record: what decided the run that it holds."""

CONFIG_FILE = "config.json"

SEQUENCE_CLASSIFICATION = "BertForSequenceClassification"
TOKEN_CLASSIFICATION = "BertForTokenClassification"

OUTPUT_WEIGHTS, OUTPUT_BIAS = "output_weights", "output_bias"
_HEAD = {OUTPUT_WEIGHTS: "classifier.weight", OUTPUT_BIAS: "classifier.bias"}


@dataclass(frozen=True)
class FineTunedModel:
    """A model with its labels.

    Attributes:
      pretrained: encoder, tokens, casing; its `weights` hold `output_weights` and `output_bias`.
      labels: in the order of their numbers.
    """

    pretrained: PretrainedModel
    labels: tuple[str, ...]


def is_fine_tuned(folder: Path) -> bool:
    """Tells whether a folder seems to hold a model that can be evaluated."""
    return (folder / CONFIG_FILE).is_file()


def load_fine_tuned(
    folder: Path,
    architecture: str,
    *,
    do_lower_case: bool | None = None,
    check_case: bool = True,
) -> FineTunedModel:
    """Reads a fine-tuned model.

    Args:
      folder: as `write_model` leaves it, or transformers.
      architecture: the class that it must be of.
      do_lower_case: for a folder that does not say it.
      check_case: refuse a casing that the vocabulary's capitals contradict.

    Raises:
      UserError: the folder holds no such model.
    """
    where = folder / CONFIG_FILE
    settings = read_json_object(where)
    found = settings.get("architectures") or ["no architecture"]
    if found[0] != architecture:
        raise UserError(
            f"{where}: found {found[0]}, expected {architecture}; fine-tune it first with "
            "--do_train"
        )
    names = settings.get("id2label")
    count = len(names) if isinstance(names, dict) else 0
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(count))):
        raise UserError(f"{where}: id2label does not name the labels from 0 on; expected each once")
    labels = tuple(str(names[str(index)]) for index in range(count))
    hidden = settings.get("hidden_size", 768)
    pretrained = load_from_transformers(
        folder,
        do_lower_case=do_lower_case,
        check_case=check_case,
        extra_shapes={
            _HEAD[OUTPUT_WEIGHTS]: (count, hidden),
            _HEAD[OUTPUT_BIAS]: (count,),
        },
    )
    for variable, name in _HEAD.items():
        pretrained.weights[variable] = pretrained.extra[name]
    return FineTunedModel(pretrained, labels)


def write_model(
    folder: Path,
    *,
    architecture: str,
    config: BertConfig,
    gelu: str,
    tokens: Sequence[str],
    rules: TokenizerRules,
    max_length: int,
    labels: Sequence[str],
    weights: Mapping[str, np.ndarray],
    dropout: float,
) -> None:
    """Writes a fine-tuned model as transformers saves one.

    Args:
      folder: to be filled.
      architecture: transformers' class for it.
      config: the encoder's.
      gelu: "tanh" or "erf".
      tokens: the vocabulary in the order of the ids.
      rules: of the tokenizer.
      max_length: WordPieces of the longest sequence that the model is for.
      labels: in the order of their numbers.
      weights: by Google's names.
      dropout: before the last layer.
    """
    named = {_HEAD.get(name) or transformers_name(name).name: name for name in weights}

    def tensor(new: str) -> np.ndarray:
        name = named[new]
        transposed = name not in _HEAD and transformers_name(name).transposed
        return weights[name].T if transposed else weights[name]

    write_weights(
        folder,
        {new: tensor(new).shape for new in named},
        ((new, tensor(new)) for new in named),
    )
    settings = to_transformers_config(
        config,
        gelu=gelu,
        architecture=architecture,
        dtype="float32",
        pad_token_id=list(tokens).index("[PAD]"),
    )
    settings["classifier_dropout"] = dropout
    settings["id2label"] = {str(index): label for index, label in enumerate(labels)}
    settings["label2id"] = {label: index for index, label in enumerate(labels)}
    if architecture == SEQUENCE_CLASSIFICATION:
        settings["problem_type"] = "single_label_classification"
    (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    write_tokenizer(folder, tokens, rules=rules, max_length=max_length)


def require_output(output_dir: Path, program: str, *, model_dir: Path | None) -> None:
    """Checks, before any work, that the output can be written.

    Args:
      output_dir: where to.
      program: who writes.
      model_dir: the fine-tuned model that is to be evaluated; None if one is trained.

    Raises:
      UserError: the folder holds something else.
    """
    if model_dir is not None and model_dir.resolve() == output_dir.resolve():
        return
    require_replaceable(output_dir, program)
    if model_dir is not None and is_fine_tuned(output_dir):
        raise UserError(
            f"--output_dir: {output_dir} holds a model of its own, whose results those of "
            f"{model_dir} would replace; choose another folder"
        )


def holds_run(output_dir: Path, run: Mapping[str, Any]) -> bool:
    """Tells whether a folder holds the results of a run.

    Args:
      output_dir: the folder, which need not be there.
      run: what decides it.

    Raises:
      UserError: it holds those of another one.
    """
    if not (output_dir / RESULTS_FILE).is_file():
        return False
    found = read_record(output_dir).get(RUN)
    name = difference(found, run)
    if name is not None:
        other = f"a run with another {name}" if found else "results that do not say of which run"
        raise UserError(
            f"--output_dir: {output_dir} holds {other}; choose another folder, or remove this one "
            "to make it anew"
        )
    return True


@contextmanager
def new_folder(output_dir: Path, program: str, record: dict[str, Any]) -> Iterator[Path]:
    """Yields a folder that takes its final name when the block ends well."""
    with complete_folder(output_dir, program, {"version": __version__, **record}) as folder:
        yield folder


def write_results(
    folder: Path, results: Mapping[str, Any], files: Mapping[str, Sequence[str]]
) -> None:
    """Writes results and predictions, each file complete or not at all.

    Args:
      folder: where to.
      results: what `eval_results.json` says; what it said before under other keys stays, but they
        are no longer those of the run that made the folder.
      files: lines of further files by name.
    """
    names = {RESULTS_FILE, *files} if results else set(files)
    record = read_record(folder)
    record.pop(RUN, None)
    if record:
        # First the names, so that a later run knows the files for its own even after a kill.
        write_json(
            folder / RECORD_FILE, {**record, "files": sorted(names | set(record.get("files", [])))}
        )
    for name, lines in files.items():
        with atomic_write(folder / name, "w") as stream:
            stream.writelines(f"{line}\n" for line in lines)
    if results:
        path = folder / RESULTS_FILE
        former = read_json_object(path) if path.is_file() else {}
        write_json(path, {**former, **results})
