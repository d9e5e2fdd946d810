"""The flags that hand a program's work to Apache Beam. Imports nothing of it."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence

from absl import flags

from data_prep.common.errors import UsageError, UserError
from data_prep.common.program import ProgramFlags


def define(values: ProgramFlags) -> None:
    """Defines `--runner` and `--pipeline_options`."""
    values.section("For more than one machine")
    flags.DEFINE_string(
        "runner",
        None,
        "Do the work as a pipeline of Apache Beam, with the same output: DirectRunner, "
        "FlinkRunner, SparkRunner, DataflowRunner, PortableRunner or another that Beam knows. "
        "Paths may then be of any file system that Beam reads, such as gs://, s3:// or hdfs://. "
        "--num_workers gives way to the runner's own options.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "pipeline_options",
        "",
        "Options for the runner, as on its command line, such as "
        "'--direct_num_workers=4 --direct_running_mode=multi_processing'.",
        flag_values=values,
    )


def require_valid(values: ProgramFlags) -> None:
    """Checks the flags of a run that goes to a runner.

    Raises:
      UsageError: a flag has no meaning with `--runner`.
      UserError: Apache Beam is not installed.
    """
    if not values.runner.strip():
        raise UsageError("--runner: found an empty name; expected one such as DirectRunner")
    if values.num_workers > 1:
        raise UsageError(
            f"--num_workers={values.num_workers} means nothing to --runner; give the runner's own "
            "option in --pipeline_options, such as --direct_num_workers for DirectRunner, "
            "--parallelism for FlinkRunner or --max_num_workers for DataflowRunner"
        )
    split_options(values.pipeline_options)
    require_beam("--runner")


def require_beam(who: str) -> None:
    """Raises `UserError` if Apache Beam, which `who` needs, is not installed."""
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            f"{who} needs Apache Beam, which is not installed; run "
            "pip install 'apache-beam>=2.77,<2.78'"
        )


def split_options(pipeline_options: str) -> Sequence[str]:
    """Returns the options one by one.

    Raises:
      UsageError: they are not options, or one has no place among them.
    """
    try:
        options = shlex.split(pipeline_options)
    except ValueError as error:
        raise UsageError(f"--pipeline_options: {error}; close each quote") from None
    takes_value = False
    for option in options:
        if not option.startswith("--") and not takes_value:
            raise UsageError(
                f"--pipeline_options: found {option!r}; expected --NAME=VALUE, several between "
                "spaces"
            )
        takes_value = option.startswith("--") and "=" not in option
        reason = _REFUSED.get(option.partition("=")[0])
        if reason is not None:
            raise UsageError(f"--pipeline_options: {reason}")
    return options


_REFUSED = {
    "--runner": "names a runner; give it as --runner",
    "--output_executable_path": "--output_executable_path has Beam write a program in place of "
    "running the pipeline; leave it out",
}


def require_no_stray_options(values: ProgramFlags) -> None:
    """Refuses options for a runner where there is none.

    Raises:
      UsageError: there are some.
    """
    if values.runner is None and values.pipeline_options:
        raise UsageError("--pipeline_options are a runner's; give --runner too")
