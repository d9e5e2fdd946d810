"""Makes examples as `create_pretraining_data` does: outputs checked, files or shards, a report."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_clinical.instances.report import write_report
from bert_clinical.instances.settings import InstanceSettings
from bert_clinical.instances.shards import make_shards, plan_shards
from bert_clinical.instances.writer import ExampleWriter, summary
from bert_clinical.tfrecords.sidecars import doubts
from bert_clinical.wordpieces.vocabulary import require_usable_vocab
from data_prep.common.errors import UserError
from data_prep.common.paths import listed, make_folder

_log = logging.getLogger(__name__)


def create_pretraining_data(
    *,
    input_files: Sequence[Path],
    output_files: Sequence[Path] = (),
    output_dirs: Sequence[str | os.PathLike[str]] = (),
    vocab_file: str | os.PathLike[str],
    do_lower_case: bool,
    settings: Sequence[InstanceSettings],
    num_workers: int = 1,
    buffer_bytes: int = 256 << 20,
    stats_only: bool = False,
    report_file: str | os.PathLike[str] | None = None,
    check_case: bool = False,
) -> list[dict[str, Any]]:
    """Makes examples as the program does.

    Args:
      input_files: text, a sentence a line, a blank line between documents.
      output_files: filled in turn, by the first of the settings; or
      output_dirs: for a shard for each input file, a folder for each of the settings.
      vocab_file: WordPiece vocabulary.
      do_lower_case: whether it is an uncased one.
      settings: how examples are cut and masked; several for several sets of them, all made in one
        pass over the text.
      num_workers: processes for `output_dirs`.
      buffer_bytes: examples beyond this size wait on disk, for each process.
      stats_only: writes no examples.
      report_file: an HTML page about the data.
      check_case: refuse a casing that the vocabulary contradicts.

    Returns:
      The description of each shard, as it stands in the sidecars; those of the first settings
      first.

    Raises:
      UserError: an input or the vocabulary cannot be used, or an output would overwrite one.
    """
    shards = plan_shards(input_files, output_dirs) if output_dirs else []
    examples = [*output_files, *(shard.output_file for shard in shards)]
    report = [] if report_file is None else [Path(report_file)]
    _require_distinct([*examples, *report], [*input_files, Path(vocab_file)])
    require_usable_vocab(vocab_file, do_lower_case, check_case=check_case)
    for path in [] if stats_only else examples:
        make_folder(path.parent, "output_dir" if output_dirs else "output_file")
    for path in report:
        make_folder(path.parent, "report_file")
    if shards and not stats_only:
        descriptions = make_shards(
            shards=shards,
            vocab_file=vocab_file,
            do_lower_case=do_lower_case,
            settings=settings,
            buffer_bytes=buffer_bytes,
            num_workers=num_workers,
        )
    else:
        writer = ExampleWriter(
            vocab_file=vocab_file,
            do_lower_case=do_lower_case,
            settings=settings,
            buffer_bytes=buffer_bytes,
        )
        groups = [[path] for path in input_files] if shards else [input_files]
        wanted = dict.fromkeys(range(len(settings)), [] if stats_only else output_files)
        made = [writer.write(input_files=group, output_files=wanted) for group in groups]
        descriptions = [found[number] for number in wanted for found in made]
    tell(descriptions, [] if stats_only else [*output_dirs, *output_files], report_file)
    return descriptions


def tell(
    descriptions: Sequence[Mapping[str, Any]],
    places: Iterable[str | os.PathLike[str]],
    report_file: str | os.PathLike[str] | None,
) -> None:
    """Says what was made and writes the report.

    Args:
      descriptions: of the shards, as in their sidecars.
      places: files or folders of the examples.
      report_file: an HTML page about the data; None for none.
    """
    lengths = {description["flags"]["max_seq_length"] for description in descriptions}
    for description in descriptions:
        name = listed(Path(entry["path"]).name for entry in description["inputs"])
        if len(lengths) > 1:
            name += f", length {description['flags']['max_seq_length']}"
        _log.info("%s:", name)
        for line in summary(description):
            _log.info("  %s", line)
    for line in doubts(descriptions):
        _log.warning("%s", line)
    if report_file is not None:
        write_report(report_file, descriptions)
        _log.info("Report: %s", report_file)
    for path in places:
        _log.info("Examples: %s", path)


def _require_distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    taken = {path.resolve(): "an input" for path in inputs}
    for path in outputs:
        place = path.resolve()
        if place in taken:
            raise UserError(f"{path}: is {taken[place]} too; choose another output")
        if path.is_dir():
            raise UserError(f"{path}: is a folder; the name of a file was expected")
        taken[place] = "another output"
