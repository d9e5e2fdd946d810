"""The picture of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep import atomic_files

_PANELS = (
    ("Loss", ("loss", "masked_lm_loss", "next_sentence_loss"), False),
    ("Accuracy", ("masked_lm_accuracy", "next_sentence_accuracy"), False),
    ("Learning rate", ("learning_rate",), False),
    ("Gradient norm before clipping", ("gradient_norm",), True),
)
_NAMES = {
    "loss": "total",
    "masked_lm_loss": "masked LM",
    "next_sentence_loss": "next sentence",
    "masked_lm_accuracy": "masked LM",
    "next_sentence_accuracy": "next sentence",
}


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws losses, accuracies, learning rate and gradient norm over the steps.

    Args:
      history: records of `training_log.jsonl`; `kind` is "training" or "held_out".
      path: the PNG file; complete or not there at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, names, logarithmic) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for index, name in enumerate(names):
            for kind, style in (("training", "-"), ("held_out", "o--")):
                points = [
                    (record["step"], record[name])
                    for record in history
                    if record["kind"] == kind and record.get(name) is not None
                ]
                if points:
                    label = _NAMES.get(name, "")
                    axes.plot(
                        *zip(*points, strict=True), style, color=f"C{index}", markersize=4,
                        linewidth=1.2, label=f"{label}, held out" if kind == "held_out" else label,
                    )  # fmt: skip
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.grid(alpha=0.3)
        if logarithmic:
            axes.set_yscale("log")
        if len(names) > 1 and axes.lines:
            axes.legend(fontsize=8)
    with atomic_files.atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=110)
