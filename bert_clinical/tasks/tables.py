"""Tables of fine-tuning runs: mean and deviation over the seeds, encoders beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bert_clinical.tasks.folder import RESULTS_FILE
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object

if TYPE_CHECKING:
    import pandas as pd

TASK, ENCODER = "task", "encoder"
"""Columns of runs that lie in a folder of their encoder, in one of their task."""

START = "start"
"""The encoder that others are held against."""

_SETTINGS = "hyperparameters"
_SEED = "random_seed"
_MEASURED = ("dev", "test")
_DIFFERENCE = "difference"
# They make the paper's grid; others are shown where the runs differ in them.
_ALWAYS_SHOWN = ("num_train_epochs", "learning_rate", "train_batch_size")
_OF_THE_ENCODER = ("model", "gelu")


def read_runs(runs_dir: Path, metric: str, *, by_task: bool = False) -> pd.DataFrame:
    """Returns a row for each run: its settings by their flags' names, `dev` and `test`.

    Args:
      runs_dir: holds a folder for each run; those without results yet are left out.
      metric: as in `eval_results.json` behind `eval_` and `test_`. A run need not have test data.
      by_task: the runs lie deeper, in `<task>/<encoder>/<run>`; the rows have these columns too.

    Raises:
      UserError: there is no run, or one without settings or the metric.
    """
    import pandas as pd

    columns = (TASK, ENCODER) if by_task else ()
    pattern = "/".join([*"*" * len(columns), "*", RESULTS_FILE])
    rows = []
    for path in sorted(runs_dir.glob(pattern)):
        results = read_json_object(path)
        settings = results.get(_SETTINGS)
        dev, test = results.get(f"eval_{metric}"), results.get(f"test_{metric}")
        if not isinstance(settings, dict) or not isinstance(dev, int | float):
            known = sorted(n.removeprefix("eval_") for n in results if n.startswith("eval_"))
            raise UserError(
                f"{path}: expected {_SETTINGS} and eval_{metric} of a run with --do_train and "
                f"--do_eval; found the metrics {', '.join(known) or 'of no dev data'}"
            )
        folders = dict(zip(columns, path.relative_to(runs_dir).parts, strict=False))
        rows.append({**settings, **folders, "dev": dev, "test": test})
    if not rows:
        raise UserError(f"{runs_dir}: found no {pattern}; expected a folder for each run")
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
    return (
        _over_seeds(runs, _settings_of(runs))
        .sort_values("dev", ascending=False, kind="stable")
        .reset_index()
        .dropna(axis="columns", how="all")
    )


def beside_each_other(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns what `compare` does for each task, with the encoders' figures beside each other.

    Args:
      runs: as `read_runs` returns them with `by_task`.

    Returns:
      A row for each task and settings: `<encoder>_runs`, `<encoder>_dev` and so on, and for each
      encoder but `START`, where that is one of them, `<encoder>_difference`, by how much its mean
      on the test data is higher.

    Raises:
      UserError: the runs of an encoder began with several models, or a run has no figure of test
        data.
    """
    untested = runs[TASK][runs["test"].isna()].unique()
    if len(untested):
        raise UserError(
            f"{len(untested)} of {runs[TASK].nunique()} tasks have runs without figures of test "
            f"data, {untested[0]} first; expected labels in the test data"
        )
    for encoder, models in runs.groupby(ENCODER)["model"].unique().items():
        if len(models) > 1:
            raise UserError(
                f"the runs of {encoder} began with {len(models)} models, {' and '.join(models)}; "
                "expected one: evaluate the other in a folder of its own"
            )
    rows = [TASK, *_settings_of(runs.drop(columns=list(_OF_THE_ENCODER), errors="ignore"))]
    table = _over_seeds(runs, [*rows, ENCODER]).unstack(ENCODER)
    encoders = sorted(runs[ENCODER].unique(), key=lambda name: (name == START, name))
    figures = ["runs", *(name + end for name in _MEASURED for end in ("", "_sd"))]
    table = table.reindex(columns=list(itertools.product(figures, encoders)))
    table.columns = [f"{encoder}_{figure}" for figure, encoder in table.columns]
    table = table[[f"{encoder}_{figure}" for encoder in encoders for figure in figures]]
    if START in encoders:
        for encoder in encoders[:-1]:
            table[f"{encoder}_{_DIFFERENCE}"] = table[f"{encoder}_test"] - table[f"{START}_test"]
    counts = {f"{encoder}_runs": "Int64" for encoder in encoders}
    return table.astype(counts).reset_index().dropna(axis="columns", how="all")


def to_markdown(table: pd.DataFrame) -> list[str]:
    """Returns the lines of a table in Markdown; a column and its deviation become "mean ± sd"."""
    import pandas as pd

    columns = [name for name in table.columns if not name.endswith("_sd")]

    def cell(row: pd.Series, name: str) -> str:
        form = ".4f" if name.rpartition("_")[2] in (*_MEASURED, _DIFFERENCE) else ".4g"
        texts = [
            format(row[part], form) if isinstance(row[part], float) else str(row[part])
            for part in (name, f"{name}_sd")
            if part in row and not pd.isna(row[part])
        ]
        return " ± ".join(texts)

    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row, name) for name in columns] for _, row in table.iterrows()]
    return [f"| {' | '.join(line)} |" for line in lines]


def _settings_of(runs: pd.DataFrame) -> list[str]:
    """Returns the columns of the settings that tell the runs apart, or that are always shown."""
    return [
        name
        for name in runs.columns.drop([*_MEASURED, TASK, ENCODER], errors="ignore")
        if name in _ALWAYS_SHOWN or (name != _SEED and runs[name].nunique(dropna=False) > 1)
    ]


def _over_seeds(runs: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Returns mean and deviation of the runs that agree in these columns, which are the index."""
    return runs.groupby(list(columns), dropna=False).agg(
        runs=("dev", "size"),
        **{
            f"{name}{end}": (name, figure)
            for name in _MEASURED
            for end, figure in (("", "mean"), ("_sd", "std"))
        },
    )
