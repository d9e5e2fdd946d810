"""Scores of all secrets at the cost of few questions: the same as asked one by one."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest

from bert_clinical.audit.masked_pieces import Answers, Questions
from bert_clinical.audit.secret_scores import IN_TURN, TOGETHER, Rank, SecretSpace
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.canaries.canary import Canary
from data_prep.common.errors import UserError

# Values of one, two and three pieces; `7` and `8` are spelled by the same piece, [UNK].
PIECES = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "code", "of", "-", ".", "1", "2", "##1", "##2",
    "12", "##12", "Ann", "##a", "Be", "##tt", "##y", "the", "cook",
)  # fmt: skip
FIELDS = (("1", "2", "12", "121", "1212", "21", "7", "8"), ("Ann", "Anna", "Betty", "Be"))
SENTENCE = "the cook - {1} of code {0} - 12 ."
MASK_ID = PIECES.index("[MASK]")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES))
    return TextEncoder(FullTokenizer(path, do_lower_case=False))


def canary(secret: tuple[str, ...] = ("121", "Anna"), sentence: str = SENTENCE) -> Canary:
    return Canary(3, "t", sentence, "d", secret, 1)


def log_probability(ids: np.ndarray, position: int, piece: int) -> float:
    """A model whose answer depends on every piece of its input, on the place and on the answer."""
    seed = zlib.crc32(ids.astype(np.int32).tobytes() + bytes([position, piece]))
    return -float(np.float32(np.random.default_rng(seed).exponential()))


class Model:
    """Answers questions, and counts sequences."""

    def __init__(self) -> None:
        self.sequences = 0

    def __call__(self, questions: Questions) -> Answers:
        self.sequences += len(questions.ids)
        assert np.all(np.diff(questions.sequence) >= 0)
        assert len(questions.ids) == len(np.unique(questions.ids, axis=0))
        logs = [
            log_probability(
                questions.ids[s, : questions.lengths[s]], questions.positions[s, place], piece
            )
            for s, place, piece in zip(
                questions.sequence, questions.place, questions.piece, strict=True
            )
        ]
        return Answers(np.array(logs, np.float32), np.zeros(len(logs), bool))


def one_by_one(encoder: TextEncoder, secret: tuple[str, ...]) -> tuple[float, float]:
    """The two scores of one secret, by their definition."""
    code, name = encoder.encode(secret[0]), encoder.encode(secret[1])
    ids = [encoder.cls_id, *encoder.encode("the cook -")]
    spans = [range(len(ids), len(ids) + len(name))]
    ids += [*name, *encoder.encode("of code")]
    spans.append(range(len(ids), len(ids) + len(code)))
    ids += [*code, *encoder.encode("- 12 ."), encoder.sep_id]
    places = [*spans[0], *spans[1]]
    together = np.array(ids)
    together[places] = MASK_ID
    in_turn = 0.0
    for place in places:
        masked = np.array(ids)
        masked[place] = MASK_ID
        in_turn += log_probability(masked, place, ids[place])
    return in_turn, sum(log_probability(together, place, ids[place]) for place in places)


def test_scores_are_those_of_one_secret_after_the_other(encoder: TextEncoder) -> None:
    model = Model()
    space = SecretSpace(canary(), FIELDS, encoder, 64)
    scores = space.scores(model, MASK_ID)
    expected = [one_by_one(encoder, secret) for secret in itertools.product(*FIELDS)]
    np.testing.assert_allclose(scores[IN_TURN], [e[0] for e in expected], rtol=1e-12)
    np.testing.assert_allclose(scores[TOGETHER], [e[1] for e in expected], rtol=1e-12)
    pieces = sum(
        len(encoder.encode(value)) for secret in itertools.product(*FIELDS) for value in secret
    )
    assert space.size == 32 and space.told_apart == 28
    # Asked one by one, it would be a sequence for each piece and one for each secret.
    assert model.sequences < 0.75 * (pieces + 32)


def test_a_vocabulary_that_holds_the_values_whole_takes_a_question_for_each(
    encoder: TextEncoder,
) -> None:
    model = Model()
    fields = (("1", "2", "12"), ("Ann", "Be"))
    SecretSpace(canary(("12", "Ann")), fields, encoder, 64).scores(model, MASK_ID)
    # With a code masked there are two names around it, with a name masked three codes.
    assert model.sequences == 1 + 2 + 3


def test_ranks(encoder: TextEncoder) -> None:
    space = SecretSpace(canary(), FIELDS, encoder, 64)
    own = list(itertools.product(*FIELDS)).index(("121", "Anna"))
    scores = np.linspace(-9.0, -10.0, 32)
    assert space.rank(scores) == Rank(own + 1, 32, False)
    scores[own] = 0.0
    assert space.rank(scores) == Rank(1, 32, True)
    assert space.rank(scores).exposure == 5.0
    scores[[1, 2]] = 0.0
    assert space.rank(scores) == Rank(2.0, 32, False)
    assert space.rank(np.zeros(32)).exposure == pytest.approx(np.log2(32 / 16.5))


@pytest.mark.parametrize(
    ("sentence", "fragment"),
    [
        ("the cook{0} - {1}", "reach into its secret"),
        ("the {0}", "each of the 2 fields"),
        ("the {0} {0} {1}", "each of the 2 fields"),
        ("the " * 70 + "{0} {1}", "up to 77 WordPieces, but the model takes 64"),
    ],
)
def test_sentences_that_cannot_be_looked_for(
    encoder: TextEncoder, sentence: str, fragment: str
) -> None:
    with pytest.raises(UserError, match=f"canary 3.*{fragment}") as caught:
        SecretSpace(canary(sentence=sentence), FIELDS, encoder, 64)
    assert "121" not in str(caught.value) and "Ann" not in str(caught.value)
