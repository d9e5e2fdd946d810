"""How likely a masked LM holds WordPieces in the places where they were masked.

Dimensions: N sequences, S their length, P chosen positions of each, M answers asked for, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bert_clinical.modeling import BertModel
from bert_clinical.nn.heads import masked_lm_logits
from bert_clinical.nn.tensorflow import tf
from bert_clinical.tokenization import MASK
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.vocabulary import PAD
from data_prep.common.errors import UserError

_SEQUENCE_OF_BATCH = 128
"""The length that `batch_size` is meant for; of shorter sequences more are computed at once."""


class Questions(NamedTuple):
    """Sequences with masks in them, and the WordPieces that are asked for.

    Attributes:
      ids: int32 [N, S], [MASK] where something is masked, [PAD] at the end.
      lengths: int32 [N], of each sequence without its padding.
      positions: int32 [N, P], where answers are wanted.
      sequence: int32 [M], the sequence that an answer is wanted of, ascending.
      place: int32 [M], which of its `positions`.
      piece: int32 [M], the id asked for.
    """

    ids: np.ndarray
    lengths: np.ndarray
    positions: np.ndarray
    sequence: np.ndarray
    place: np.ndarray
    piece: np.ndarray


class Answers(NamedTuple):
    """What a model makes of questions.

    Attributes:
      log_probabilities: float32 [M], natural logarithms.
      is_first: bool [M], whether the piece is the likeliest of all.
    """

    log_probabilities: np.ndarray
    is_first: np.ndarray


class MaskedPieces:
    """A model that is asked for masked WordPieces.

    Args:
      model: with its masked LM head.
      batch_size: sequences of 128 WordPieces computed at once, of shorter ones more.
    """

    def __init__(self, model: PretrainedModel, batch_size: int) -> None:
        self._batch_size = batch_size
        self._variables = {
            name: tf.Variable(value, name=name)
            for name, value in {**model.weights, **model.encoder_weights()}.items()
        }
        self._table = tf.Variable(model.logits_table())
        self._entries = len(model.tokens)
        self._encoder = BertModel(model.config, gelu=model.gelu)
        table, flat = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
        self._answer = tf.function(
            self._answers, autograph=False, input_signature=[table, flat, table, flat, flat]
        )
        tokens = list(model.tokens)
        self.mask_id, self.pad_id = tokens.index(MASK), tokens.index(PAD)

    def answer(
        self, questions: Questions, advance: Callable[[int], None] = lambda done: None
    ) -> Answers:
        """Returns the answers in the order of the questions.

        Args:
          questions: any number of sequences.
          advance: called with the number of sequences done since.

        Raises:
          UserError: there is too little memory.
        """
        total, length = questions.ids.shape
        at_once = max(self._batch_size * _SEQUENCE_OF_BATCH // max(length, 1), 1)
        at_once = min(at_once, self._batch_size * 8)
        logs, firsts = [], []
        for start in range(0, total, at_once):
            end = min(start + at_once, total)
            first, last = np.searchsorted(questions.sequence, [start, end])
            longest = int(questions.lengths[start:end].max())
            rows = (questions.sequence[first:last] - start) * questions.positions.shape[1]
            try:
                log, is_first = self._answer(
                    questions.ids[start:end, :longest],
                    questions.lengths[start:end],
                    questions.positions[start:end],
                    rows + questions.place[first:last],
                    questions.piece[first:last],
                )
            except (tf.errors.ResourceExhaustedError, MemoryError):
                raise UserError(
                    f"out of memory with {end - start} sequences of {longest} WordPieces at once; "
                    "give a smaller --batch_size"
                ) from None
            logs.append(log.numpy())
            firsts.append(is_first.numpy())
            advance(end - start)
        return Answers(np.concatenate(logs), np.concatenate(firsts))

    def _answers(
        self,
        ids: tf.Tensor,
        lengths: tf.Tensor,
        positions: tf.Tensor,
        rows: tf.Tensor,
        pieces: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns float32 [M] log-probabilities and bool [M]; `rows` counts all positions."""
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1], tf.int32)
        # The encoder's last layer is computed at these positions only, of which 0 is the first.
        chosen = tf.pad(positions, [[0, 0], [1, 0]])
        output = self._encoder(self._variables, ids, mask, last_positions=chosen)
        width = self._encoder.config.hidden_size
        vectors = tf.reshape(output.sequence_output[:, 1:], [-1, width])
        logits = masked_lm_logits(self._variables, vectors, self._table, self._encoder.activation)
        wanted = tf.gather_nd(logits, tf.stack([rows, pieces], axis=1))
        totals = tf.gather(tf.reduce_logsumexp(logits, axis=-1), rows)
        # Rows of the table beyond the vocabulary stand for nothing.
        best = tf.argmax(logits[:, : self._entries], axis=-1, output_type=tf.int32)
        first = tf.gather(best, rows)
        return wanted - totals, first == pieces
