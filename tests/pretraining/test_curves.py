"""The picture of a run holds all that is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from bert_clinical.pretraining.curves import draw_curves


@pytest.mark.parametrize(
    ("rate", "norm", "sets"), [(5e-4, 0.02, 0), (3e-5, 123456.7, 1), (5e-4, 7.0, 9)]
)
def test_nothing_reaches_the_edge(tmp_path: Path, rate: float, norm: float, sets: int) -> None:
    history: list[dict[str, Any]] = []
    for step in (100, 75000, 150000):
        share = step / 150000
        loss = {"loss": 11.7 - share, "masked_lm_loss": 11.0 - share, "next_sentence_loss": 0.7}
        loss |= {"masked_lm_perplexity": 59874.1 * (1.1 - share), "masked_lm_accuracy": share}
        own = {"learning_rate": rate * (1.0 - share), "gradient_norm": norm * (1.0 + share)}
        history.append({"kind": "training", "step": step, **loss, **own})
        for number in range(sets):
            history.append({"kind": "held_out", "set": f"set{number}", "step": step, **loss})
    draw_curves(history, tmp_path / "curves.png")
    picture = matplotlib.image.imread(tmp_path / "curves.png")
    for edge in (picture[:, 0], picture[:, -1], picture[0], picture[-1]):
        assert (edge == 1.0).all()
