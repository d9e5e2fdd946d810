"""What a card says of an audit, and of whose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.weights.audited import (
    card_section,
    find_audit,
    is_of,
    update_card,
    weights_digest,
)

AUDIT = {
    "inputs": {"model": {"weights_sha256": "ab"}},
    "exposure": {
        "0": {"mean_bits": 1.42, "interval": [0.6, 2.4], "extracted": 0.0},
        "64": {"mean_bits": 12.5, "interval": [11.0, 13.29], "extracted": 0.75},
    },
    "membership": {
        "auc": 0.625, "interval": [0.55, 0.7],
        "by_patient": {"auc": 0.65, "interval": [0.5, 0.8]},
    },
    "learnt": {"has_learnt": True},
    "verdict": ["Quixzandorph"],
}  # fmt: skip


def test_the_section_tells_numbers_alone() -> None:
    lines = card_section(AUDIT)
    assert lines[0] == "## Memorisation"
    for expected in (
        "| Controls, never planted | exposure 1.4 bits (0.6 to 2.4), 0% extracted |",
        "| Canaries planted 64 × | exposure 12.5 bits (11.0 to 13.3), 75% extracted |",
        "| Trained-on notes against held-out ones | AUC 0.625 (0.550 to 0.700) |",
        "| Trained-on patients against held-out ones | AUC 0.650 (0.500 to 0.800) |",
    ):
        assert expected in lines
    text = "\n".join(lines)
    assert "Quixzandorph" not in text and "never that it does not" in text
    assert "no merit" not in text


@pytest.mark.parametrize("learnt", [None, {}, {"has_learnt": False}, 3])
def test_a_model_that_may_have_learnt_nothing_is_not_praised(learnt) -> None:
    assert "no merit" in "\n".join(card_section({**AUDIT, "learnt": learnt}))


@pytest.mark.parametrize(
    "audit",
    [
        {}, {"exposure": 3}, {"exposure": {"1": 3}, "membership": []},
        {"exposure": {"1": {"mean_bits": "x", "interval": [0, 1], "extracted": 0}}},
        {"exposure": {"Quixzandorph": AUDIT["exposure"]["0"]}},
        {"exposure": {"1": {"mean_bits": 1, "interval": [0], "extracted": 0}}},
    ],
)  # fmt: skip
def test_what_holds_no_figures_gives_no_section(audit) -> None:
    assert card_section(audit) == []


def test_an_earlier_section_is_replaced(tmp_path: Path) -> None:
    assert not update_card(tmp_path, AUDIT)
    card = tmp_path / "README.md"
    plain = "# Title\n\n## Made with\n\nx\n\n## Who may have it\n\ny\n"
    card.write_text(plain)
    assert update_card(tmp_path, AUDIT)
    once = card.read_text()
    assert once.index("## Made with") < once.index("## Memorisation") < once.index("## Who")
    assert update_card(tmp_path, AUDIT)
    assert card.read_text() == once
    assert update_card(tmp_path, {})
    assert card.read_text() == plain
    card.write_text("# Somebody's card\n")
    assert update_card(tmp_path, AUDIT)
    assert card.read_text().startswith("# Somebody's card\n") and "1.4 bits" in card.read_text()


def test_the_digest_is_of_what_is_computed_with() -> None:
    weights = {"b": np.ones((2, 3), np.float32), "a": np.zeros(5, np.float32)}
    digest = weights_digest(weights)
    others = {"bert/pooler/dense/bias": np.ones(2), "cls/seq_relationship/output_bias": np.ones(2)}
    assert weights_digest({**dict(reversed(weights.items())), **others}) == digest
    assert weights_digest({**weights, "a": np.full(5, 1e-9, np.float32)}) != digest
    assert is_of({"inputs": {"model": {"weights_sha256": digest}}}, digest)
    assert not is_of({"inputs": []}, digest) and not is_of({}, digest)


@pytest.mark.parametrize("place", ["model", "model/audit", "audit"])
def test_an_audit_is_found_in_and_beside_the_folder(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    assert find_audit(folder) == {}
    (tmp_path / place).mkdir(exist_ok=True)
    for content in ("{", "[1]"):
        (tmp_path / place / "audit.json").write_text(content)
        assert find_audit(folder) == {}
    (tmp_path / place / "audit.json").write_text(json.dumps(AUDIT))
    assert find_audit(folder) == AUDIT
