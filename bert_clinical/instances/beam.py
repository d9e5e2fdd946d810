"""The shards of `--output_dir` as a pipeline of Apache Beam: an input file is an element."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import bert_clinical
from bert_clinical.instances.settings import InstanceSettings
from bert_clinical.instances.shards import (
    STAGING_NAME,
    Outcome,
    require_no_failures,
    shard_names,
    tell_damaged,
)
from bert_clinical.instances.writer import signature
from bert_clinical.wordpieces.vocabulary import require_usable_vocab
from data_prep.beam import flags as beam_flags
from data_prep.beam import launch as beam_launch
from data_prep.beam.progress import Phase
from data_prep.beam.staging import Staging
from data_prep.common import files as beam_files
from data_prep.common import lease, unfinished
from data_prep.common.errors import UserError
from data_prep.common.input_files import find_files

_log = logging.getLogger(__name__)

RESULT = "shards.json"


class RemoteShard(NamedTuple):
    """An input file and what becomes of it, each of any file system; local paths are absolute."""

    input_file: str
    output_file: str

    @property
    def sidecar(self) -> str:
        """Where the description of the shard stands."""
        return self.output_file + ".json"


class ShardSettings(NamedTuple):
    """What the shards follow from.

    Attributes:
      vocab_file: WordPiece vocabulary, where workers find it.
      vocab_name: how sidecars call it.
      do_lower_case: whether it is an uncased one.
      settings: how examples are cut and masked.
      buffer_bytes: examples beyond this size wait on disk.
      signature: what is to stand in the sidecars, as JSON.
      version: of this package.
    """

    vocab_file: str
    vocab_name: str
    do_lower_case: bool
    settings: InstanceSettings
    buffer_bytes: int
    signature: str
    version: str


def make_shards(
    *,
    input_patterns: str,
    output_dir: str,
    vocab_file: str,
    do_lower_case: bool,
    settings: InstanceSettings,
    buffer_bytes: int,
    runner: str,
    pipeline_options: str,
    check_case: bool = False,
) -> list[dict[str, Any]]:
    """Makes the shards that are missing, as on one machine, each by a worker alone.

    Args:
      input_patterns: files or globs, comma-separated.
      output_dir: a folder of any file system that Beam writes.
      vocab_file: WordPiece vocabulary.
      do_lower_case: whether it is an uncased one.
      settings: how examples are cut and masked.
      buffer_bytes: of each worker.
      runner: a name that Beam knows.
      pipeline_options: the runner's options.
      check_case: refuse a casing that the vocabulary contradicts.

    Returns:
      The shards' sidecars.

    Raises:
      UserError: as `pretraining_shards.make_shards`; or the pipeline failed.
    """
    options = beam_flags.split_options(pipeline_options)
    if any(map(beam_files.is_remote, (input_patterns, output_dir, vocab_file))):
        beam_files.set_options(options)
    inputs = find_files(input_patterns, "input_file", once=True)
    (vocab,) = find_files(vocab_file, "vocab_file", keep_empty=True)
    outputs = [beam_files.join(output_dir, name) for name in shard_names(inputs)]
    shards = [
        RemoteShard(*map(beam_files.absolute, pair)) for pair in zip(inputs, outputs, strict=True)
    ]
    _require_distinct(shards, beam_files.absolute(vocab))
    with _here(vocab) as local_vocab:
        require_usable_vocab(local_vocab, do_lower_case, check_case=check_case)
        wanted = signature(local_vocab, do_lower_case, settings, vocab_file)
    shared = ShardSettings(
        vocab_file=beam_files.absolute(vocab),
        vocab_name=vocab_file,
        do_lower_case=do_lower_case,
        settings=settings,
        buffer_bytes=buffer_bytes,
        signature=json.dumps(wanted),
        version=bert_clinical.__version__,
    )
    beam_files.make_folder(output_dir)
    with (
        lease.held(output_dir, "create_pretraining_data"),
        beam_files.told_as_given([*inputs, *outputs]),
        beam_launch.Launcher(runner, options) as launcher,
    ):
        run = functools.partial(
            _run,
            launcher=launcher,
            runner=runner,
            shared=shared,
            output_dir=beam_files.absolute(output_dir),
        )
        there = [shard for shard in shards if beam_files.size(shard.sidecar) is not None]
        descriptions = _intact(run(there, check=True)) if there else {}
        missing = [shard for shard in shards if shard not in descriptions]
        if descriptions:
            _log.info("%d of %d shards are there already", len(descriptions), len(shards))
        made = run(missing, check=False) if missing else {}
        require_no_failures(
            [
                f"{shard.input_file}: {o.failure}"
                for shard, o in made.items()
                if o.failure is not None
            ],
            len(shards),
        )
        descriptions |= {
            shard: o.description for shard, o in made.items() if o.description is not None
        }
    return [descriptions[shard] for shard in shards]


def _intact(found: Mapping[RemoteShard, Outcome]) -> dict[RemoteShard, dict[str, Any]]:
    """Returns the sidecars of the shards that are there and are what was written.

    Raises:
      UserError: a shard is there that this run may not make again.
    """
    for shard, outcome in found.items():
        if outcome.failure is not None:
            raise UserError(outcome.failure)
        if outcome.description is None and beam_files.size(shard.output_file) is not None:
            tell_damaged(shard.output_file)
    return {shard: o.description for shard, o in found.items() if o.description is not None}


def _run(
    shards: Sequence[RemoteShard],
    *,
    check: bool,
    launcher: beam_launch.Launcher,
    runner: str,
    shared: ShardSettings,
    output_dir: str,
) -> dict[RemoteShard, Outcome]:
    """Returns what came of each shard, in order."""
    if not check:
        _log.info("%d shard(s) to make on %s", len(shards), runner)
    with Staging(beam_files.join(output_dir, STAGING_NAME)) as staging:
        launcher.run(
            "bert_clinical.instances.beam_steps",
            shards=shards,
            shared=shared,
            check=check,
            staging=staging.run,
            phase=lambda: Phase("shards", "shards", len(shards)),
        )
        result = json.loads(beam_files.read(beam_files.join(staging.run, RESULT)))
    outcomes = {RemoteShard(*shard): Outcome(*outcome) for shard, outcome in result}
    if set(outcomes) != set(shards):
        raise UserError(
            f"the runner answered for {len(outcomes)} of {len(shards)} shards; run the same "
            "command again, and report this line if it stays"
        )
    return {shard: outcomes[shard] for shard in shards}


@contextmanager
def _here(path: str) -> Iterator[str]:
    """Yields the path of a file on this machine with what stands in a file anywhere."""
    if not beam_files.is_remote(path):
        yield path
        return
    with unfinished.temporary_folder() as folder:
        local = folder / Path(path).name
        beam_files.copy_in(path, local)
        yield str(local)


def _require_distinct(shards: Sequence[RemoteShard], vocab_file: str) -> None:
    inputs = {vocab_file, *(shard.input_file for shard in shards)}
    for shard in shards:
        if shard.output_file in inputs:
            raise UserError(f"{shard.output_file}: is an input too; choose another output")
