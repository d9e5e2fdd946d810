"""Each input file a shard of its own, made by several processes, and only what is missing."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

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

Result = TypeVar("Result")


class Shard(NamedTuple):
    """An input file and what becomes of it.

    Attributes:
      input_file: the text.
      output_file: its examples.
      number: the place of the settings by which they are cut and masked.
    """

    input_file: Path
    output_file: Path
    number: int


class Outcome(NamedTuple):
    """What came of a shard: its sidecar, or one line that says why there is none."""

    description: dict[str, Any] | None
    failure: str | None


def plan_shards(
    input_files: Sequence[Path], output_dirs: Sequence[str | os.PathLike[str]]
) -> list[Shard]:
    """Returns the shards: `<stem>.tfrecord` in each folder for each input file.

    Args:
      input_files: the texts.
      output_dirs: a folder for each of the settings.

    Raises:
      UserError: two files would become the same shard.
    """
    names = shard_names([str(path) for path in input_files])
    return [
        Shard(path, Path(output_dir) / name, number)
        for number, output_dir in enumerate(output_dirs)
        for path, name in zip(input_files, names, strict=True)
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
    settings: Sequence[InstanceSettings],
    buffer_bytes: int,
    num_workers: int,
) -> list[dict[str, Any]]:
    """Makes the shards that are missing, each as if its input file were the only one.

    Those of one input file are made together, of a text that is read once. Several programs may
    fill a folder, each with shards of its own.

    Args:
      shards: what to make, at least one; their folders exist.
      vocab_file: WordPiece vocabulary.
      do_lower_case: whether it is an uncased one.
      settings: how examples are cut and masked, in the order of the shards' numbers.
      buffer_bytes: of each process.
      num_workers: processes; their number changes nothing in the output.

    Returns:
      The shards' sidecars.

    Raises:
      UserError: a shard that exists was made otherwise, or one could not be made, as when another
        program is making it; those that could are kept. A runner of Beam has the folder.
    """
    with contextlib.ExitStack() as stack:
        for folder in dict.fromkeys(shard.output_file.parent for shard in shards):
            # Not alone: the jobs of an array, each with its own inputs, write to one folder.
            stack.enter_context(
                atomic_files.held(folder, "create_pretraining_data --runner", together=True)
            )
            files.remove_folder(str(folder / STAGING_NAME))
        return _make_missing(shards, vocab_file, do_lower_case, settings, buffer_bytes, num_workers)


def _make_missing(
    shards: Sequence[Shard],
    vocab_file: str | os.PathLike[str],
    do_lower_case: bool,
    settings: Sequence[InstanceSettings],
    buffer_bytes: int,
    num_workers: int,
) -> list[dict[str, Any]]:
    wanted = [signature(vocab_file, do_lower_case, each) for each in settings]
    descriptions = {shard: _finished(shard, wanted[shard.number]) for shard in shards}
    missing = [shard for shard in shards if descriptions[shard] is None]
    for shard in missing:
        if shard.output_file.exists() and sidecar_path(shard.output_file).exists():
            tell_damaged(str(shard.output_file))
    if len(missing) < len(shards):
        _log.info("%d of %d shards are there already", len(shards) - len(missing), len(shards))
    make_worker = functools.partial(_ShardMaker, vocab_file, do_lower_case, settings, buffer_bytes)
    failures = []
    by_input: dict[Path, list[Shard]] = {}
    for shard in missing:
        by_input.setdefault(shard.input_file, []).append(shard)
    sizes = {path: path.stat().st_size for path in by_input}
    with _nothing_partial(missing), contextlib.ExitStack() as stack:
        # The largest first, so that the last worker to end does not end long after the others.
        by_name = {str(path): by_input[path] for path in sorted(sizes, key=lambda p: -sizes[p])}
        progress = stack.enter_context(
            Progress("making shards", "bytes", total=sum(sizes.values()), rate_unit="words")
        )
        workers: Workers[list[Shard], tuple[list[dict[str, Any]] | None, str | None]] = (
            stack.enter_context(Workers(make_worker, min(num_workers, max(len(by_name), 1))))
        )
        for name, (made, failure) in workers.work(by_name.items()):
            if made is None:
                failures.append(f"{name}: {failure}")
                continue
            words = 0
            for shard, description in zip(by_name[name], made, strict=True):
                descriptions[shard] = description
                words = description["counts"]["words"]
                instances = f"{description['counts']['instances']:,}"
                _log.info("%s: %s instances", _place(shard, settings), instances)
            progress.advance(sizes[by_name[name][0].input_file], rate=words)
    require_no_failures(failures, len({shard.input_file for shard in shards}))
    return [description for description in descriptions.values() if description is not None]


def _place(shard: Shard, settings: Sequence[InstanceSettings]) -> str:
    """Returns how a shard is called: by its name, and its folder's where there are several."""
    path = shard.output_file
    return path.name if len(settings) == 1 else f"{path.parent.name}/{path.name}"


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
        settings: Sequence[InstanceSettings],
        buffer_bytes: int,
    ) -> None:
        self._writer = ExampleWriter(
            vocab_file=vocab_file,
            do_lower_case=do_lower_case,
            settings=settings,
            buffer_bytes=buffer_bytes,
            show_progress=False,
        )

    def __call__(self, shards: list[Shard]) -> tuple[list[dict[str, Any]] | None, str | None]:
        return attempted(functools.partial(self._make, shards))

    def _make(self, shards: list[Shard]) -> list[dict[str, Any]]:
        """Returns the descriptions of shards of one input file, which are there then."""
        by_number = {shard.number: shard for shard in shards}
        found = self._writer.write(
            input_files=[shards[0].input_file],
            output_files={number: [shard.output_file] for number, shard in by_number.items()},
            is_there=lambda number: _finished(by_number[number], self._writer.signatures[number]),
        )
        return [found[shard.number] for shard in shards]


def attempted(make: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Calls what makes shards; returns its result, or None and one line that says why."""
    try:
        return make(), None
    except UserError as error:
        return None, str(error)
    except OSError as error:
        return None, os_error_message(error)
    except Exception as error:  # noqa: BLE001
        return None, internal_error_message(error)
