"""The steps that make shards, or look at those that are there."""

from __future__ import annotations

import functools
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

import bert_clinical
from bert_clinical.instances.beam import RESULT, RemoteShard, ShardSettings
from bert_clinical.instances.shards import Outcome, attempted, require_made_so
from bert_clinical.instances.writer import ExampleWriter
from bert_clinical.tfrecords.sidecars import parse_sidecar, sidecar_path
from data_prep.beam import progress as beam_progress
from data_prep.beam import steps as beam_steps
from data_prep.beam.steps import text_free
from data_prep.common import files as beam_files
from data_prep.common.errors import UserError

COUNTERS = "create_pretraining_data"


def build(
    pipeline: beam.Pipeline,
    *,
    shards: Sequence[RemoteShard],
    shared: ShardSettings,
    check: bool,
    staging: str,
) -> None:
    """Adds the steps; the file `RESULT` in `staging` says what came of each shard.

    Args:
      pipeline: what they are added to.
      shards: what to make.
      shared: what the shards follow from.
      check: only look at shards that are there.
      staging: folder of the run.
    """
    step = _CheckShard(shared, staging) if check else _MakeShard(shared, staging)
    _ = (
        pipeline
        | "Shards" >> beam.Create([json.dumps(shard).encode() for shard in shards])
        | "Share shards" >> beam.Reshuffle()
        | "Each shard" >> beam.ParDo(step).with_output_types(bytes)
        | beam_steps.ToOneKey()
        | "Write" >> beam.ParDo(beam_steps.WriteJson(beam_files.join(staging, RESULT), _combined))
    )


class _CheckShard(beam.DoFn):
    """A shard → its sidecar if it is there whole and made as it is to be, else nothing."""

    def __init__(self, shared: ShardSettings, staging: str) -> None:
        self._shared = shared
        self._staging = staging

    @text_free
    def setup(self) -> None:
        beam_progress.begin(self._staging)

    @text_free
    def process(self, element: bytes) -> Iterator[bytes]:
        shard = RemoteShard(*json.loads(element))
        try:
            outcome = Outcome(self._description(shard), None)
        except UserError as error:
            outcome = Outcome(None, str(error))
        beam_progress.add(self._staging, shards=1)
        yield json.dumps([shard, outcome]).encode()

    def _description(self, shard: RemoteShard) -> dict[str, Any] | None:
        if beam_files.size(shard.output_file) is None:
            return None
        description = parse_sidecar(beam_files.read(shard.sidecar), shard.sidecar)
        text = beam_files.sha256(shard.input_file)
        require_made_so(description, json.loads(self._shared.signature), text, shard.output_file)
        intact = beam_files.is_intact(shard.output_file, description.get("outputs"))
        return description if intact else None


class _MakeShard(beam.DoFn):
    """A shard → its sidecar; both files stand under their names then, the sidecar last."""

    def __init__(self, shared: ShardSettings, staging: str) -> None:
        self._shared = shared
        self._staging = staging

    @text_free
    def setup(self) -> None:
        beam_progress.begin(self._staging)

    @text_free
    def process(self, element: bytes) -> Iterator[bytes]:
        shard = RemoteShard(*json.loads(element))
        outcome = Outcome(*attempted(functools.partial(self._make, shard)))
        if outcome.description is not None:
            beam_steps.count(COUNTERS, {"shards": 1, **outcome.description["counts"]})
        beam_progress.add(self._staging, shards=1)
        yield json.dumps([shard, outcome]).encode()

    def _make(self, shard: RemoteShard) -> dict[str, Any]:
        is_here = not beam_files.is_remote(shard.output_file)
        with tempfile.TemporaryDirectory(dir=self._staging if is_here else None) as folder:
            text, made = shard.input_file, Path(folder, Path(shard.output_file).name)
            if beam_files.is_remote(text):
                text = os.path.join(folder, Path(shard.input_file).name)  # noqa: PTH118
                beam_files.copy_in(shard.input_file, Path(text))
            try:
                writer = _writer(self._shared)
                with _one_at_a_time:
                    (description,) = writer.write(
                        input_files=[text], output_files={0: [made]}, input_names=[shard.input_file]
                    ).values()
            except UserError as error:
                raise UserError(str(error).replace(text, shard.input_file)) from None
            # A sidecar of an earlier file must not describe this one.
            beam_files.remove(shard.sidecar)
            self._move(made, shard.output_file, is_here)
            self._move(sidecar_path(made), shard.sidecar, is_here)
        return description

    def _move(self, made: Path, name: str, is_here: bool) -> None:
        if is_here:
            beam_files.replace(str(made), name)
            return
        temporary = beam_files.join(self._staging, f"{made.parent.name}-{made.name}")
        beam_files.copy_out(made, temporary)
        beam_files.replace(temporary, name)


_one_at_a_time = threading.Lock()
_building = threading.Lock()


def _writer(shared: ShardSettings) -> ExampleWriter:
    """Returns the writer of this process: vocabulary, caches, compiled loops, built once."""
    with _building:
        return _built(shared)


@functools.lru_cache(maxsize=1)
def _built(shared: ShardSettings) -> ExampleWriter:
    with tempfile.TemporaryDirectory() as folder:
        vocab = shared.vocab_file
        if beam_files.is_remote(vocab):
            vocab = str(Path(folder, Path(vocab).name))
            beam_files.copy_in(shared.vocab_file, Path(vocab))
        writer = ExampleWriter(
            vocab_file=vocab,
            do_lower_case=shared.do_lower_case,
            settings=[shared.settings],
            buffer_bytes=shared.buffer_bytes,
            show_progress=False,
            vocab_name=shared.vocab_name,
        )
    if bert_clinical.__version__ != shared.version:
        raise UserError(
            f"a worker has bert-clinical {bert_clinical.__version__} in place of {shared.version}; "
            "give all workers the same installation"
        )
    if writer.signatures[0] != json.loads(shared.signature):
        raise UserError(
            f"{shared.vocab_file} is another file to this worker than to the program; give all "
            "the same, and do not write to it while the program runs"
        )
    return writer


def _combined(elements: Iterable[bytes]) -> list[Any]:
    return [json.loads(element) for element in elements]
