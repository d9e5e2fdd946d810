"""Turns pretraining text into masked TFRecords: the examples of Google's program, one by one.

The text has a sentence on each line and a blank line between documents, as format_notes writes it.
The same flags give the same examples in the same order as Google's create_pretraining_data.py. A
description of what was made stands beside each output, under its name and .json.

Example:
  python -m bert_clinical.create_pretraining_data \\
    --input_file=notes/discharge_summary.txt --output_file=examples.tfrecord \\
    --vocab_file=biobert/vocab.txt --do_lower_case=false --dupe_factor=5
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from bert_clinical.instances.settings import InstanceSettings
from data_prep.beam import flags as beam_flags
from data_prep.common import program, settings_flags
from data_prep.common.errors import UsageError
from data_prep.common.input_files import find_local_files
from data_prep.common.paths import make_folder, require_readable_file
from data_prep.common.program import ProgramFlags


def define_flags(values: ProgramFlags) -> None:
    """Defines Google's flags, then ours."""
    values.section("As in Google's program")
    flags.DEFINE_string(
        "input_file", None,
        "Text files, globs or folders, comma-separated; gzip too.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "output_file", None,
        "TFRecord files, comma-separated, filled in turn. A name that ends in .gz is gzip.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "vocab_file", None, "The vocabulary of the model to be pretrained.", flag_values=values
    )
    flags.DEFINE_boolean(
        "do_lower_case", True,
        "Lower-case the text and strip accents: true for uncased vocabularies, false for cased "
        "ones, such as BioBERT's.",
        flag_values=values,
    )  # fmt: skip
    settings_flags.define(values, InstanceSettings)
    values.section("For large archives")
    flags.DEFINE_string(
        "output_dir", None,
        "In place of --output_file: every input file becomes <stem>.tfrecord in this folder, as if "
        "it were the only one. Started again, the program makes only what is missing. A folder for "
        "each length of --max_seq_length, comma-separated.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "num_workers", 1,
        "Processes that make the shards of --output_dir. Their number changes nothing in the "
        "output.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "buffer_mb", 256,
        "Memory for finished examples, for each process. What does not fit waits in a temporary "
        "file beside the output.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_boolean(
        "check_case", False,
        "Refuse a --do_lower_case that the vocabulary's capitals contradict. Without it there is a "
        "warning, and the examples are Google's.",
        flag_values=values,
    )  # fmt: skip
    beam_flags.define(values)
    values.section("To look at the data")
    flags.DEFINE_boolean(
        "stats_only", False,
        "Only count documents, words, WordPieces, unknown ones, instances; write nothing.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "report_file", None,
        "An HTML page with sequence lengths and the share of unknown words, by shard.",
        flag_values=values,
    )  # fmt: skip
    values.require("input_file", "vocab_file")


def main(values: ProgramFlags) -> None:
    """Checks the flags and the files, then makes the examples."""
    from bert_clinical.instances import run

    settings = settings_flags.read_each(values, InstanceSettings)
    for each in settings:
        each.require_valid()
    _require_one_kind_of_output(values)
    output_dirs = _output_dirs(values, len(settings))
    beam_flags.require_no_stray_options(values)
    if values.runner is not None:
        _require_what_runners_do(values, len(settings))
        from bert_clinical.instances import beam

        if values.report_file is not None:
            make_folder(Path(values.report_file).parent, "report_file")
        descriptions = beam.make_shards(
            input_patterns=values.input_file,
            output_dir=values.output_dir,
            vocab_file=values.vocab_file,
            do_lower_case=values.do_lower_case,
            settings=settings[0],
            buffer_bytes=values.buffer_mb << 20,
            runner=values.runner,
            pipeline_options=values.pipeline_options,
            check_case=values.check_case,
        )
        run.tell(descriptions, [values.output_dir], values.report_file)
        return
    input_files = find_local_files(values.input_file, "input_file", once=bool(output_dirs))
    vocab_file = require_readable_file(values.vocab_file, "vocab_file")
    run.create_pretraining_data(
        input_files=input_files,
        output_files=_comma_separated(values.output_file),
        output_dirs=output_dirs,
        vocab_file=vocab_file,
        do_lower_case=values.do_lower_case,
        settings=settings,
        num_workers=values.num_workers,
        buffer_bytes=values.buffer_mb << 20,
        stats_only=values.stats_only,
        report_file=values.report_file,
        check_case=values.check_case,
    )


def _require_one_kind_of_output(values: ProgramFlags) -> None:
    if values.output_file is not None and values.output_dir is not None:
        raise UsageError("--output_file and --output_dir exclude each other; give one")
    if values.output_file is None and values.output_dir is None and not values.stats_only:
        raise UsageError("nowhere to write; give --output_file or --output_dir, or --stats_only")
    for name in ("num_workers", "buffer_mb"):
        if values[name].value < 1:
            raise UsageError(f"--{name} is {values[name].value}; it must be at least 1")
    if values.num_workers > 1 and values.output_dir is None:
        raise UsageError("--num_workers works on the shards of --output_dir; give that too")


def _output_dirs(values: ProgramFlags, lengths: int) -> list[str]:
    """Returns the folder of each length's shards; none where shards are not what is made."""
    if lengths == 1:
        return [] if values.output_dir is None else [values.output_dir]
    if values.output_file is not None:
        raise UsageError(
            f"--output_file takes examples of one length, and --max_seq_length names {lengths}; "
            "give --output_dir with a folder for each, comma-separated"
        )
    folders = [] if values.output_dir is None else values.output_dir.split(",")
    if folders and (len(folders) != lengths or not all(folders)):
        raise UsageError(
            f"--max_seq_length names {lengths} lengths and --output_dir {sum(map(bool, folders))} "
            "folder(s); expected a folder for each, comma-separated"
        )
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UsageError("--output_dir names a folder twice; expected another for each length")
    return folders


def _require_what_runners_do(values: ProgramFlags, lengths: int) -> None:
    beam_flags.require_valid(values)
    if values.output_dir is None:
        raise UsageError(
            "--runner makes the shards of --output_dir; give that in place of --output_file"
        )
    if values.stats_only:
        raise UsageError("--stats_only writes nothing that a runner could; leave out --runner")
    if lengths > 1:
        raise UsageError(
            f"--runner makes the examples of one length, and --max_seq_length names {lengths}; run "
            "it once for each, or leave out --runner"
        )


def _comma_separated(paths: str | None) -> list[Path]:
    if paths is None:
        return []
    found = [path.strip() for path in paths.split(",")]
    if not all(found):
        raise UsageError("--output_file: an empty path stands between two commas; remove it")
    return [Path(path) for path in found]


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
