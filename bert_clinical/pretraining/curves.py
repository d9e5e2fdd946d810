"""The picture of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.common import atomic_files

_PANELS = (
    ("Loss", ("loss", "masked_lm_loss", "next_sentence_loss")),
    ("Accuracy", ("masked_lm_accuracy", "next_sentence_accuracy")),
    ("Perplexity of the masked LM", ("masked_lm_perplexity",)),
    ("Learning rate", ("learning_rate",)),
    ("Gradient norm before clipping", ("gradient_norm",)),
)
_LABELS = {
    "loss": ("total", "C0"),
    "masked_lm_loss": ("masked LM", "C1"),
    "next_sentence_loss": ("next sentence", "C2"),
    "masked_lm_accuracy": ("masked LM", "C1"),
    "next_sentence_accuracy": ("next sentence", "C2"),
    "masked_lm_perplexity": ("masked LM", "C1"),
}
_LOGARITHMIC = "masked_lm_perplexity"
_HELD_OUT_MARKERS = "osD^vP*X"


def draw_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws what a run's log tells over the steps, training and held-out data together.

    Args:
      history: lines of `training_log.jsonl`; `kind` is "training" or "held_out", and `set` names
        one of several held-out sets.
      path: the PNG file; complete or not there at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sources = dict.fromkeys((line["kind"], line.get("set", "")) for line in history)
    held_out = [source for source in sources if source[0] == "held_out"]
    figure = Figure(figsize=(15, 8))
    FigureCanvasAgg(figure)
    places = figure.subplots(2, 3, gridspec_kw=_margins(len(sources))).flat
    for axes in places[len(_PANELS) :]:
        axes.set_axis_off()
    # No speed: the same run gives the same picture.
    for axes, (title, names) in zip(places[: len(_PANELS)], _PANELS, strict=True):
        for name in names:
            _draw(axes, history, name, ("training", ""), ".-")
            for number, source in enumerate(held_out):
                marker = _HELD_OUT_MARKERS[number % len(_HELD_OUT_MARKERS)]
                _draw(axes, history, name, source, f"{marker}--")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=9, labelpad=1)
        axes.grid(alpha=0.3)
        # Long numbers, as of a learning rate, would not find room beside the panel.
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        if _LOGARITHMIC in names and axes.lines:
            axes.set_yscale("log")
        if len(axes.lines) > 1:
            # Below, where it can hide no curve.
            axes.legend(
                fontsize=8,
                ncols=min(len(names), 3),
                loc="upper center",
                bbox_to_anchor=(0.5, -0.14),
                frameon=False,
            )
    with atomic_files.atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=110)


def _margins(sources: int) -> dict[str, float]:
    """Returns where the panels stand, with room for a legend's line for each source below them.

    Matplotlib could find it out, by drawing everything twice.
    """
    bottom, top, title_and_step, line = 0.07, 0.96, 0.1, 0.022
    between = min(title_and_step + line * sources, 0.4)
    height = (top - bottom - between) / 2
    return {
        "left": 0.04, "right": 0.99, "bottom": bottom, "top": top, "wspace": 0.16,
        "hspace": between / height,
    }  # fmt: skip


def _draw(
    axes: Any, history: Sequence[Mapping[str, Any]], name: str, source: tuple[str, str], style: str
) -> None:
    """Draws a value of the lines of one kind and set, if they have it."""
    points = [
        (line["step"], line[name])
        for line in history
        if (line["kind"], line.get("set", "")) == source and line.get(name) is not None
    ]
    if points:
        label, color = _LABELS.get(name, ("", "C0"))
        if source[0] == "held_out":
            label = f"{label}, {source[1] or 'held out'}"
        axes.plot(
            *zip(*points, strict=True), style, color=color, markersize=3, linewidth=1.2, label=label
        )
