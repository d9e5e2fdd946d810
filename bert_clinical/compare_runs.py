"""Tables fine-tuning runs by their settings, over the random seeds; the best on the dev data first.

Example:
  python -m bert_clinical.compare_runs --runs_dir=mednli_runs --metric=accuracy
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from data_prep.common import program
from data_prep.common.atomic_files import atomic_write
from data_prep.common.errors import UserError
from data_prep.common.program import ProgramFlags

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

_SETTINGS = "hyperparameters"
_SEED = "random_seed"
# They make the paper's grid; others are shown where the runs differ in them.
_ALWAYS_SHOWN = ("num_train_epochs", "learning_rate", "train_batch_size")


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
    flags.DEFINE_string("output_file", None, "Where to write the table as CSV.", flag_values=values)
    values.require("runs_dir", "metric")


def main(values: ProgramFlags) -> None:
    """Reads the runs, then shows and writes the table."""
    table = compare(read_runs(Path(values.runs_dir), values.metric))
    _log.info("%s", table.to_string(index=False, na_rep="", float_format="{:.4g}".format))
    if values.output_file:
        with atomic_write(Path(values.output_file), "w") as stream:
            table.to_csv(stream, index=False)


def read_runs(runs_dir: Path, metric: str) -> pd.DataFrame:
    """Returns a row for each run: its settings by their flags' names, `dev` and `test`.

    Args:
      runs_dir: holds a folder for each run; those without results yet are left out.
      metric: as in `eval_results.json` behind `eval_` and `test_`. A run need not have test data.

    Raises:
      UserError: there is no run, or one without settings or the metric.
    """
    import pandas as pd

    from bert_clinical.tasks.folder import RESULTS_FILE
    from data_prep.common.json_files import read_json_object

    rows = []
    for path in sorted(runs_dir.glob(f"*/{RESULTS_FILE}")):
        results = read_json_object(path)
        settings = results.get(_SETTINGS)
        dev, test = results.get(f"eval_{metric}"), results.get(f"test_{metric}")
        if not isinstance(settings, dict) or not isinstance(dev, int | float):
            known = sorted(n.removeprefix("eval_") for n in results if n.startswith("eval_"))
            raise UserError(
                f"{path}: expected {_SETTINGS} and eval_{metric} of a run with --do_train and "
                f"--do_eval; found the metrics {', '.join(known) or 'of no dev data'}"
            )
        rows.append({**settings, "dev": dev, "test": test})
    if not rows:
        raise UserError(f"{runs_dir}: found no */{RESULTS_FILE}; expected a folder for each run")
    return pd.DataFrame(rows).astype({"dev": float, "test": float})


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns mean and standard deviation of `dev` and `test` over runs that differ by seed alone.

    Args:
      runs: as `read_runs` returns them.

    Returns:
      A row for each settings, the highest mean on the dev data first: those of the paper's grid and
      those in which the runs differ, `runs`, `dev`, `dev_sd`, `test`, `test_sd` (n - 1 in the
      denominator). Columns without any number are left out.
    """
    settings = [
        name
        for name in runs.columns.drop(["dev", "test"])
        if name in _ALWAYS_SHOWN or (name != _SEED and runs[name].nunique(dropna=False) > 1)
    ]
    return (
        runs.groupby(settings, dropna=False)
        .agg(
            runs=("dev", "size"),
            dev=("dev", "mean"),
            dev_sd=("dev", "std"),
            test=("test", "mean"),
            test_sd=("test", "std"),
        )
        .sort_values("dev", ascending=False, kind="stable")
        .reset_index()
        .dropna(axis="columns", how="all")
    )


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
