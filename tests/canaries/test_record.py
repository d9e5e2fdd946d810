"""What manifests, sidecars and records say of canaries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_clinical.weights.provenance import canaries_in
from data_prep.canaries import record

A = {"planted_sentences": 21, "sets": {"a": {"0": 1, "1": 1, "4": 5}}}
B = {"planted_sentences": 3, "sets": {"b": {"0": 2, "1": 3}}}
A_ELSEWHERE = {"planted_sentences": 9, "sets": A["sets"]}


def test_texts_of_one_planting_share_its_canaries() -> None:
    assert record.combined([]) is None
    assert record.combined([None, {}, A]) == A
    both = record.combined([A, B, A_ELSEWHERE])
    assert both == {"planted_sentences": 33, "sets": {**A["sets"], **B["sets"]}}
    assert record.line(both) == "33 planted sentences of 9 canaries"


def test_a_manifest_speaks_of_the_files_it_names(tmp_path: Path) -> None:
    manifest = record.with_canaries({"program": "x", "canaries": {"b.txt": B}}, {"a.txt": A})
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert record.of_text(str(tmp_path / "a.txt")) == A
    assert record.of_texts([str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt")]) == (
        record.combined([A, B])
    )
    assert record.of_text(str(tmp_path / "elsewhere" / "a.txt")) is None
    assert canaries_in([{"canaries": A}, {}, None]) == {"canaries": A}
    assert canaries_in([{"canaries": A, "of": 1}] * 3) == {"canaries": A}
    assert canaries_in([{}, None]) == {}


@pytest.mark.parametrize(
    "said",
    [[], {"planted_sentences": "4", "sets": {}}, {"planted_sentences": 4, "sets": {"a": 3}},
     {"planted_sentences": 4, "sets": {"a": {"1": "x"}}}, {"sets": {"a": {"1": 1}}}],
)  # fmt: skip
def test_what_is_no_summary_says_nothing(tmp_path: Path, said) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"canaries": {"a.txt": said}}))
    assert record.of_text(str(tmp_path / "a.txt")) is None
    assert record.combined([said]) is None
