"""Each input file a shard of its own, made by several processes, and only what is missing."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert_clinical.instances.settings import InstanceSettings
from bert_clinical.instances.writer import ExampleWriter, is_complete, signature
from bert_clinical.tfrecords.sidecars import read_sidecar, sidecar_path
from data_prep.common import atomic_files, files
from data_prep.common.errors import UserError, internal_error_message, os_error_message
from data_prep.common.own_files import SHARDS_BEAM_FOLDER
from data_prep.common.progress import Progress
from data_prep.common.workers import Workers

_log = logging.getLogger(__name__)

STAGING_NAME = SHARDS_BEAM_FOLDER
"""The folder within the output's in which a runner of Beam keeps what is not complete."""

_SHOWN_FAILURES = 3


class Shard(NamedTuple):
    """An input file and what becomes of it."""

    input_file: Path
    output_file: Path


class Outcome(NamedTuple):
    """What came of a shard: its sidecar, or one line that says why there is none."""

    description: dict[str, Any] | None
    failure: str | None


def plan_shards(input_files: Sequence[Path], output_dir: str | os.PathLike[str]) -> list[Shard]:
    """Returns the shards: `<stem>.tfrecord` in `output_dir` for each input file.

    Raises:
      UserError: two files would become the same shard.
    """
    names = shard_names([str(path) for path in input_files])
    return [
        Shard(path, Path(output_dir) / name) for path, name in zip(input_files, names, strict=True)
    ]


def shard_names(input_files: Sequence[str]) -> list[str]:
    """Returns the name of each input file's shard.

    Raises:
      UserError: two files would become the same shard.
    """
    sources: dict[str, str] = {}
    for path in input_files:
        name = Path(Path(path).name.removesuffix(".gz")).stem + ".tfrecord"
        if name in sources:
            raise UserError(
                f"--input_file: {sources[name]} and {path} would both become {name} in "
                "--output_dir; rename one, or give them in two runs"
            )
        sources[name] = path
    return list(sources)


def make_shards(
    *,
    shards: Sequence[Shard],
    vocab_file: str | os.PathLike[str],
    do_lower_case: bool,
    settings: InstanceSettings,
    buffer_bytes: int,
    num_workers: int,
) -> list[dict[str, Any]]:
    """Makes the shards that are missing, each as if its input file were the only one.

    Several programs may fill a folder, each with shards of its own.

    Args:
      shards: what to make, at least one, all in one folder, which exists.
      vocab_file: WordPiece vocabulary.
      do_lower_case: whether it is an uncased one.
      settings: how examples are cut and masked.
      buffer_bytes: of each process.
      num_workers: processes; their number changes nothing in the output.

    Returns:
      The shards' sidecars.

    Raises:
      UserError: a shard that exists was made otherwise, or one could not be made, as when another
        program is making it; those that could are kept. A runner of Beam has the folder.
    """
    folder = shards[0].output_file.parent
    # Not alone: the jobs of an array, each with its own inputs, write to one folder.
    with atomic_files.held(folder, "create_pretraining_data --runner", together=True):
        files.remove_folder(str(folder / STAGING_NAME))
        return _make_missing(shards, vocab_file, do_lower_case, settings, buffer_bytes, num_workers)


def _make_missing(
    shards: Sequence[Shard],
    vocab_file: str | os.PathLike[str],
    do_lower_case: bool,
    settings: InstanceSettings,
    buffer_bytes: int,
    num_workers: int,
) -> list[dict[str, Any]]:
    wanted = signature(vocab_file, do_lower_case, settings)
    descriptions = {shard: _finished(shard, wanted) for shard in shards}
    missing = [shard for shard in shards if descriptions[shard] is None]
    for shard in missing:
        if shard.output_file.exists() and sidecar_path(shard.output_file).exists():
            tell_damaged(str(shard.output_file))
    if len(missing) < len(shards):
        _log.info("%d of %d shards are there already", len(shards) - len(missing), len(shards))
    make_worker = functools.partial(_ShardMaker, vocab_file, do_lower_case, settings, buffer_bytes)
    failures = []
    total = sum(shard.input_file.stat().st_size for shard in missing)
    with _nothing_partial(missing), contextlib.ExitStack() as stack:
        # The largest first, so that the last worker to end does not end long after the others.
        missing.sort(key=lambda shard: -shard.input_file.stat().st_size)
        by_name = {str(shard.input_file): shard for shard in missing}
        progress = stack.enter_context(
            Progress("making shards", "bytes", total=total, rate_unit="words")
        )
        workers: Workers[Shard, Outcome] = stack.enter_context(
            Workers(make_worker, min(num_workers, max(len(missing), 1)))
        )
        for name, outcome in workers.work(by_name.items()):
            shard = by_name[name]
            if outcome.description is None:
                failures.append(f"{name}: {outcome.failure}")
                continue
            descriptions[shard] = outcome.description
            counts = outcome.description["counts"]
            progress.advance(shard.input_file.stat().st_size, rate=counts["words"])
            _log.info("%s: %s instances", shard.output_file.name, f"{counts['instances']:,}")
    require_no_failures(failures, len(shards))
    return [description for description in descriptions.values() if description is not None]


def require_no_failures(failures: Sequence[str], shards: int) -> None:
    """Says which shards could not be made.

    Raises:
      UserError: there are some.
    """
    more = len(failures) - _SHOWN_FAILURES
    if failures:
        raise UserError(
            f"{len(failures)} of {shards} shards could not be made, the others are complete: "
            + "; ".join(failures[:_SHOWN_FAILURES])
            + (f"; and {more} more" if more > 0 else "")
        )


def _finished(shard: Shard, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the sidecar of a shard that is there whole, made from this text with these flags.

    A shard that has changed since it was made is made again.

    Raises:
      UserError: it was made otherwise.
    """
    description = read_sidecar(shard.output_file)
    if description is None or not shard.output_file.exists():
        return None
    text = atomic_files.sha256_of_file(shard.input_file)
    require_made_so(description, wanted, text, str(shard.output_file))
    intact = files.is_intact(str(shard.output_file), description.get("outputs"))
    return description if intact and is_complete(description) else None


def tell_damaged(output_file: str) -> None:
    """Says that a shard that is there is made again."""
    _log.warning("%s is not what its sidecar vouches for; it is made again", output_file)


def require_made_so(
    description: Mapping[str, Any], wanted: Mapping[str, Any], text: str, output_file: str
) -> None:
    """Checks that a shard which is there is the one that is wanted.

    Args:
      description: its sidecar.
      wanted: the `signature` of this run.
      text: SHA-256 of the input file in hexadecimal.
      output_file: the shard, for the message.

    Raises:
      UserError: it was made otherwise.
    """
    flags = description.get("flags", {})
    differing = [
        f"{name} ({flags.get(name)}, now {value})"
        for name, value in wanted["flags"].items()
        if name != "vocab_file" and flags.get(name) != value
    ]
    if description.get("vocabulary") != wanted["vocabulary"]:
        differing.append("the vocabulary")
    digests = [entry.get("sha256") for entry in description.get("inputs", [])]
    if digests != [text]:
        differing.append("the text")
    if differing:
        raise UserError(
            f"{output_file} is there, but differs in {', '.join(differing)}; remove it or "
            "choose another --output_dir"
        )


@contextlib.contextmanager
def _nothing_partial(shards: Sequence[Shard]) -> Iterator[None]:
    """Removes at the end what ended workers left half-written."""
    try:
        yield
    finally:
        for shard in shards:
            for path in (shard.output_file, sidecar_path(shard.output_file)):
                atomic_files.remove_abandoned(path)


class _ShardMaker:
    """What a worker process builds once: vocabulary, caches, compiled loops."""

    def __init__(
        self,
        vocab_file: str | os.PathLike[str],
        do_lower_case: bool,
        settings: InstanceSettings,
        buffer_bytes: int,
    ) -> None:
        self._writer = ExampleWriter(
            vocab_file=vocab_file,
            do_lower_case=do_lower_case,
            settings=settings,
            buffer_bytes=buffer_bytes,
            show_progress=False,
        )

    def __call__(self, shard: Shard) -> Outcome:
        return outcome_of(
            functools.partial(
                self._writer.write,
                input_files=[shard.input_file],
                output_files=[shard.output_file],
                is_there=functools.partial(_finished, shard, self._writer.signature),
            )
        )


def outcome_of(make: Callable[[], dict[str, Any]]) -> Outcome:
    """Calls what makes a shard and says what came of it."""
    try:
        return Outcome(make(), None)
    except UserError as error:
        return Outcome(None, str(error))
    except OSError as error:
        return Outcome(None, os_error_message(error))
    except Exception as error:  # noqa: BLE001
        return Outcome(None, internal_error_message(error))
