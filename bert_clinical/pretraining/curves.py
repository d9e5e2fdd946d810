"""The picture of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.common import atomic_files

_PANELS = (
    ("Loss", ("loss", "masked_lm_loss", "next_sentence_loss")),
    ("Accuracy", ("masked_lm_accuracy", "next_sentence_accuracy")),
    ("Learning rate", ("learning_rate",)),
    ("Gradient norm before clipping", ("gradient_norm",)),
)
_LABELS = {
    "loss": ("total", "C0"),
    "masked_lm_loss": ("masked LM", "C1"),
    "next_sentence_loss": ("next sentence", "C2"),
    "masked_lm_accuracy": ("masked LM", "C1"),
    "next_sentence_accuracy": ("next sentence", "C2"),
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
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for name in names:
            for kind, style in (("training", ".-"), ("held_out", "o--")):
                points = [
                    (record["step"], record[name])
                    for record in history
                    if record["kind"] == kind and record.get(name) is not None
                ]
                if points:
                    label, color = _LABELS.get(name, ("", "C0"))
                    axes.plot(
                        *zip(*points, strict=True), style, color=color, markersize=3,
                        linewidth=1.2, label=f"{label}, held out" if kind == "held_out" else label,
                    )  # fmt: skip
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=9, labelpad=1)
        axes.grid(alpha=0.3)
        if len(names) > 1 and axes.lines:
            # Below, where it can hide no curve.
            axes.legend(
                fontsize=8,
                ncols=len(names),
                loc="upper center",
                bbox_to_anchor=(0.5, -0.14),
                frameon=False,
            )
    with atomic_files.atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=110)
