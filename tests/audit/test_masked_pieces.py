"""Log-probabilities of masked WordPieces against those of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_clinical.audit.masked_pieces import MaskedPieces, Questions
from bert_clinical.audit.secret_scores import IN_TURN, TOGETHER, SecretSpace
from bert_clinical.weights.pretrained import PretrainedModel, load_from_transformers
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.canaries.canary import CanarySettings, draw_canaries
from data_prep.common.errors import UserError
from tests.conversion.test_convert import save_odd_model, to_transformers
from tests.golden_data import golden
from tests.theirs import needs_transformers, theirs

pytestmark = needs_transformers

PLL_TOLERANCE = 1e-5
"""Of a sum of log-probabilities in float32, relative to its size."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The trained weights: their logits differ as those of a real model do.
    return to_transformers(golden("trained"), tmp_path_factory.mktemp("model") / "to", gelu="tanh")


@pytest.fixture(scope="module")
def model(folder: Path) -> PretrainedModel:
    return load_from_transformers(folder, heads=True)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_answers_are_those_of_transformers(
    folder: Path, model: PretrainedModel, batch_size: int
) -> None:
    rng = np.random.default_rng(1)
    pieces = MaskedPieces(model, batch_size)
    lengths = np.array([37, 37, 30, 13, 7], np.int32)
    ids = rng.integers(110, len(model.tokens), size=(5, 37)).astype(np.int32)
    positions = np.stack([rng.permutation(6)[:3] + 1 for _ in lengths]).astype(np.int32)
    for row, (length, chosen) in enumerate(zip(lengths, positions, strict=True)):
        ids[row, chosen] = pieces.mask_id
        ids[row, length:] = pieces.pad_id
    expected = theirs("masked_lm", folder, ids, lengths, positions)
    sequence = np.array([0, 0, 1, 3, 3, 3, 4], np.int32)
    place = np.array([2, 0, 1, 0, 1, 2, 0], np.int32)
    best = expected.argmax(axis=-1)
    piece = np.array([5, 1999 % len(model.tokens), best[1, 1], 7, 8, best[3, 2], 9], np.int32)
    found = pieces.answer(Questions(ids, lengths, positions, sequence, place, piece))
    np.testing.assert_allclose(
        found.log_probabilities, expected[sequence, place, piece], rtol=PLL_TOLERANCE
    )
    assert found.is_first.tolist() == (best[sequence, place] == piece).tolist()
    assert found.is_first.sum() >= 2


def test_pseudo_log_likelihoods_of_secrets_are_those_of_transformers(
    folder: Path, model: PretrainedModel
) -> None:
    encoder = TextEncoder(model.tokenizer())
    pieces = MaskedPieces(model, 8)
    for canary in draw_canaries(CanarySettings(num_canaries=3, repetitions="1")).canaries[:3]:
        # The secret and three others, so that transformers has little to do.
        values = [[value, *["0171", "1999", "03", "Mary", "Lee"]] for value in canary.secret]
        fields = [tuple(dict.fromkeys(v)) for v in values]
        space = SecretSpace(canary, fields, encoder, 128)
        scores = space.scores(pieces.answer, pieces.mask_id)
        own = encoder.encode(canary.text)
        before = encoder.encode(canary.sentence.split("{")[0])
        ids = np.array([encoder.cls_id, *own, encoder.sep_id])
        # Fields and what stands between them, less what is the same in every secret.
        end = len(ids) - 1 - len(encoder.encode(canary.sentence.rsplit("}", 1)[1]))
        dashes = {place for place in range(len(ids)) if model.tokens[ids[place]] == "-"}
        places = [place for place in range(1 + len(before), end) if place not in dashes]
        together = ids.copy()
        together[places] = pieces.mask_id
        rows = np.stack([together, *(ids.copy() for _ in places)])
        rows[np.arange(1, len(rows)), places] = pieces.mask_id
        chosen = np.array([places] * len(rows))
        logs = theirs("masked_lm", folder, rows, np.full(len(rows), len(ids)), chosen)
        asked = ids[places]
        count = len(places)
        in_turn = sum(float(logs[1 + k, k, asked[k]]) for k in range(count))
        at_once = sum(float(logs[0, k, asked[k]]) for k in range(count))
        where = np.ravel_multi_index(
            [f.index(v) for f, v in zip(fields, canary.secret, strict=True)],
            [len(f) for f in fields],
        )
        assert scores[IN_TURN][where] == pytest.approx(in_turn, rel=PLL_TOLERANCE)
        assert scores[TOGETHER][where] == pytest.approx(at_once, rel=PLL_TOLERANCE)


def test_a_model_without_the_head_is_refused(tmp_path: Path) -> None:
    bare = save_odd_model(tmp_path / "bare", "BertModel")
    with pytest.raises(UserError, match="no masked LM head"):
        load_from_transformers(bare, heads=True).require_masked_lm_head()
