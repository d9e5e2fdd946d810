"""Tables fine-tuning runs by their settings, over the random seeds; the best on the dev data first.

With --by_task the runs of several encoders on several tasks, the encoders beside each other, as
run_scripts/evaluate_encoder.sh lays them out.

Example:
  python -m bert_clinical.compare_runs --runs_dir=mednli_runs --metric=accuracy
"""

from __future__ import annotations

import logging
from pathlib import Path

from absl import flags

from bert_clinical.tasks import tables
from data_prep.common import program
from data_prep.common.atomic_files import atomic_write
from data_prep.common.paths import prepare_file
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the flags."""
    flags.DEFINE_string(
        "runs_dir", None, "The folder in which each run has a folder of its own.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "metric", None, "What to compare: accuracy of run_classifier, f of run_ner, loss ...",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_boolean(
        "by_task", False,
        "The runs lie in folders <task>/<encoder>/<run>: a row for each task, the encoders beside "
        "each other, and how far each is above the one that is named start.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string("output_file", None, "Where to write the table as CSV.", flag_values=values)
    flags.DEFINE_string(
        "markdown_file", None, "Where to write the table as Markdown.", flag_values=values
    )
    values.require("runs_dir", "metric")


def main(values: ProgramFlags) -> None:
    """Reads the runs, then shows and writes the table."""
    output, page = (
        prepare_file(values[name].value, name) if values[name].value else None
        for name in ("output_file", "markdown_file")
    )
    runs = tables.read_runs(Path(values.runs_dir), values.metric, by_task=values.by_task)
    table = tables.beside_each_other(runs) if values.by_task else tables.compare(runs)
    markdown = "\n".join(tables.to_markdown(table))
    if values.by_task:
        _log.info("%s", markdown)
    else:
        _log.info("%s", table.to_string(index=False, na_rep="", float_format="{:.4g}".format))
    if output is not None:
        with atomic_write(output, "w") as stream:
            table.to_csv(stream, index=False)
    if page is not None:
        with atomic_write(page, "w") as stream:
            stream.write(f"{markdown}\n")


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
