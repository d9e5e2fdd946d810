"""What one start of run_pretraining is asked for, checked as far as files tell; no TensorFlow."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.data_check import require_fitting_sidecars
from bert_clinical.pretraining.options import TrainingOptions
from bert_clinical.tfrecords.digests import Digests
from bert_clinical.tfrecords.sidecars import doubts
from data_prep.common.errors import UsageError, UserError, os_error_message
from data_prep.common.input_files import find_local_files
from data_prep.common.paths import make_folder, require_readable_file

_log = logging.getLogger(__name__)

_NAMED = re.compile(r"\s*([A-Za-z0-9_-]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """A start's job.

    Attributes:
      options: the settings.
      config: the model.
      bert_config_file: where its sizes were read.
      input_files: the examples to train on.
      held_out_files: those to evaluate on, by the name of each set; empty without
        --eval_input_file. A set without a name has the name "".
      sidecars: what is known of how the files were made, by file.
      digests: of these files; what is new of them is to be kept.
      output_dir: exists and can be written.
      init_checkpoint: as it was given.
      do_train: train.
      do_eval: evaluate when training is done.
      allow_flag_changes: go on although settings differ.
      worker_timeout_seconds: how long workers wait for one another at the start.
      flags: all flags by name, for the record and for the comparison of workers.
    """

    options: TrainingOptions
    config: BertConfig
    bert_config_file: str
    input_files: list[str]
    held_out_files: dict[str, list[str]]
    sidecars: dict[str, Any]
    digests: Digests
    output_dir: Path
    init_checkpoint: str | None
    do_train: bool
    do_eval: bool
    allow_flag_changes: bool
    worker_timeout_seconds: float
    flags: Mapping[str, Any]


def checked_request(options: TrainingOptions, flags: Mapping[str, Any]) -> Request:
    """Returns the job that a command line describes.

    Args:
      options: the settings among its flags.
      flags: all of them by name.

    Raises:
      UserError: a file is missing or broken, the data do not fit the model, or --output_dir cannot
        be written.
    """
    config_file = flags["bert_config_file"]
    require_readable_file(config_file, "bert_config_file")
    config = BertConfig.from_json_file(config_file)
    if options.max_seq_length > config.max_position_embeddings:
        raise UserError(
            f"--max_seq_length is {options.max_seq_length}, but the model of {config_file} takes "
            f"{config.max_position_embeddings} positions at most"
        )
    input_files = [str(path) for path in find_local_files(flags["input_file"], "input_file")]
    held_out_files = {
        name: [str(path) for path in find_local_files(patterns, "eval_input_file")]
        for name, patterns in named_sets(flags["eval_input_file"] or "").items()
    }
    _warn(options, flags)
    digests = Digests(flags["output_dir"])
    sidecars = require_fitting_sidecars(
        dict.fromkeys(itertools.chain(input_files, *held_out_files.values())),
        options,
        config,
        config_file,
        flags["init_checkpoint"],
        digests,
    )
    for line in doubts(sidecars[path] for path in input_files if path in sidecars):
        _log.warning("%s", line)
    return Request(
        options=options,
        config=config,
        bert_config_file=config_file,
        input_files=input_files,
        held_out_files=held_out_files,
        sidecars=sidecars,
        digests=digests,
        output_dir=writable_folder(flags["output_dir"]),
        init_checkpoint=flags["init_checkpoint"],
        do_train=flags["do_train"],
        do_eval=flags["do_eval"],
        allow_flag_changes=flags["allow_flag_changes"],
        worker_timeout_seconds=flags["worker_timeout_seconds"],
        flags=flags,
    )


def _warn(options: TrainingOptions, flags: Mapping[str, Any]) -> None:
    """Says what is allowed and hardly meant."""
    trains = flags["do_train"] or flags["plan"]
    if trains and options.num_warmup_steps >= options.num_train_steps:
        _log.warning(
            "--num_warmup_steps=%d is not below --num_train_steps=%d: the run ends before the "
            "learning rate has reached --learning_rate=%g",
            options.num_warmup_steps, options.num_train_steps, options.learning_rate,
        )  # fmt: skip
    if flags["eval_input_file"] and not (flags["do_eval"] or options.eval_every):
        _log.warning(
            "nothing reads --eval_input_file: give --do_eval, --eval_every or both with it"
        )


def named_sets(text: str) -> dict[str, str]:
    """Returns the patterns of each set that --eval_input_file names, by its name.

    Args:
      text: `all=a.tfrecord,b.tfrecord,radiology=c.tfrecord`, or patterns without a name.

    Raises:
      UsageError: a set has no name although another has one, or two have the same.
    """
    sets: dict[str, list[str]] = {}
    current = ""
    for part in text.split(",") if text else []:
        named = _NAMED.fullmatch(part)
        # A file whose own name holds a sign of equality is that file.
        if named is not None and not Path(part.strip()).exists():
            current = named[1]
            if current in sets:
                raise UsageError(f"--eval_input_file: two sets have the name {current}")
            part = named[2]
        sets.setdefault(current, []).append(part)
    if len(sets) > 1 and "" in sets:
        raise UsageError(
            "--eval_input_file: the first files have no name and others have one; expected "
            "NAME=FILES for every set, as all=a.tfrecord,b.tfrecord,radiology=c.tfrecord"
        )
    return {name: ",".join(parts) for name, parts in sets.items()}


def writable_folder(path: str) -> Path:
    """Returns the folder for the output, which exists then and can be written."""
    folder = Path(path)
    make_folder(folder)
    try:
        probe = folder / ".writable.partial"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir: {os_error_message(error)}") from None
    return folder
