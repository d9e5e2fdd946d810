"""Where entries stand, and what their weights begin with."""

from __future__ import annotations

import numpy as np
import pytest

from bert_clinical.extension.rows import OUTPUT_BIAS, extend_weights, place_entries
from bert_clinical.extension.selection import Entry
from bert_clinical.extension.settings import ExtensionSettings
from bert_clinical.nn.config import BertConfig
from bert_clinical.weights.pretrained import WORD_EMBEDDINGS

TOKENS = ["[PAD]", "[unused0]", "a", "[unused1]", "##b", "##c"]
ENTRIES = [Entry("abc", ("a", "##b", "##c"), 9), Entry("##bc", ("##b", "##c"), 5),
           Entry("ab", ("a", "##b"), 2)]  # fmt: skip


def test_places() -> None:
    assert place_entries(TOKENS, ENTRIES, 6, fill_unused=False) == (
        [*TOKENS, "abc", "##bc", "ab"], [6, 7, 8], 9, 0,
    )  # fmt: skip
    assert place_entries(TOKENS, ENTRIES, 8, fill_unused=True) == (
        ["[PAD]", "abc", "a", "##bc", "##b", "##c", "ab"], [1, 3, 6], 8, 2,
    )  # fmt: skip
    assert place_entries(TOKENS, ENTRIES[:1], 6, fill_unused=True) == (
        ["[PAD]", "abc", *TOKENS[2:]], [1], 6, 1,
    )  # fmt: skip


@pytest.mark.parametrize("new_rows", ["mean", "random"])
@pytest.mark.parametrize("fill_unused", [False, True])
def test_rows(new_rows: str, fill_unused: bool) -> None:
    rng = np.random.default_rng(3)
    weights = {
        WORD_EMBEDDINGS: rng.standard_normal((8, 5)).astype(np.float32),
        OUTPUT_BIAS: rng.standard_normal(8).astype(np.float32),
        "bert/pooler/dense/bias": rng.standard_normal(5).astype(np.float32),
    }
    extended = place_entries(TOKENS, ENTRIES, 8, fill_unused=fill_unused)
    config = BertConfig(8, hidden_size=5, initializer_range=0.5)
    settings = ExtensionSettings(new_rows=new_rows, random_seed=7)
    found = extend_weights(weights, TOKENS, ENTRIES, extended, config, settings)
    assert list(found) == list(weights)
    old = [n for n in range(6) if n not in extended.ids]
    for name, value in found.items():
        assert value.dtype == np.float32
        if name in (WORD_EMBEDDINGS, OUTPUT_BIAS):
            assert len(value) == extended.vocab_size
            np.testing.assert_array_equal(value[old], weights[name][old])
        else:
            np.testing.assert_array_equal(value, weights[name])
    spelt_by = ([2, 4, 5], [4, 5], [2, 4])
    for number, pieces in zip(extended.ids, spelt_by, strict=True):
        row, bias = found[WORD_EMBEDDINGS][number], found[OUTPUT_BIAS][number]
        if new_rows == "mean":
            # float32 of a mean in float64.
            expected = sum(weights[WORD_EMBEDDINGS][p].astype(np.float64) for p in pieces)
            np.testing.assert_allclose(row, expected / len(pieces), rtol=1e-7)
            expected = sum(float(weights[OUTPUT_BIAS][p]) for p in pieces) / len(pieces)
            np.testing.assert_allclose(bias, expected, rtol=1e-7)
        else:
            assert 0 < np.abs(row).max() <= 1.0 and bias == 0
    again = extend_weights(weights, TOKENS, ENTRIES, extended, config, settings)
    np.testing.assert_array_equal(again[WORD_EMBEDDINGS], found[WORD_EMBEDDINGS])


def test_a_model_without_a_masked_lm_head() -> None:
    weights = {WORD_EMBEDDINGS: np.ones((6, 5), np.float32)}
    extended = place_entries(TOKENS, ENTRIES, 6, fill_unused=False)
    config = BertConfig(6, hidden_size=5)
    found = extend_weights(weights, TOKENS, ENTRIES, extended, config, ExtensionSettings())
    assert {name: value.shape for name, value in found.items()} == {WORD_EMBEDDINGS: (9, 5)}
