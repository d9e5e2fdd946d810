"""Draws the README's picture of what the quickstart leaves.

python docs/draw_quickstart.py quickstart_output
"""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

PICTURE = Path(__file__).with_name("quickstart.svg")
TRAINING, HELD_OUT = "#2b6cb0", "#c05621"


def bars(axes: Any, title: str, values: dict[str, int]) -> None:
    """Draws a bar for each value, the first on top."""
    names = list(values)[::-1]
    drawn = axes.barh(names, [values[name] for name in names], color=TRAINING, height=0.6)
    axes.bar_label(drawn, [f"{values[name]:,}" for name in names], padding=4, fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlim(right=1.25 * max(values.values()))
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False, labelsize=9)


def curve(axes: Any, title: str, history: list[dict[str, Any]], name: str) -> None:
    """Draws a number over the steps, of training and of held-out data."""
    for kind, label, color in (
        ("training", "training", TRAINING),
        ("held_out", "held out", HELD_OUT),
    ):
        points = [(r["step"], r[name]) for r in history if r["kind"] == kind and name in r]
        if points:
            axes.plot(*zip(*points, strict=True), ".-", color=color, label=label, linewidth=1.3)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("step", fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.legend(fontsize=9, frameon=False)


def draw(folder: Path) -> str:
    """Returns the picture of a folder that the quickstart made."""
    manifest = json.loads((folder / "text" / "manifest.json").read_text())
    log = (folder / "model" / "training_log.jsonl").read_text()
    history = [json.loads(line) for line in log.splitlines()]
    counts, held_out = manifest["counts"], manifest["held_out_counts"]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    grid = figure.subplots(2, 2)
    bars(
        grid[0, 0],
        "Words of each text",
        {"training": counts["words"], "held out": held_out["words"]},
    )
    taken = counts["notes"] + held_out["notes"]
    other = {"other categories": manifest["rows_of_other_categories"], **manifest["dropped"]}
    bars(grid[1, 0], "Notes: taken, and left out", {"taken": taken, **other})
    curve(grid[0, 1], "Loss", history, "loss")
    curve(grid[1, 1], "Masked LM accuracy", history, "masked_lm_accuracy")
    stream = StringIO()
    with rc_context({"svg.hashsalt": "bert-clinical", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"<metadata>.*?</metadata>\s*", "", stream.getvalue(), flags=re.DOTALL)


if __name__ == "__main__":
    PICTURE.write_text(draw(Path(sys.argv[1])))
