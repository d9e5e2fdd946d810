"""The masked LM and next sentence heads, their losses, and what evaluation counts.

Dimensions: B batch, P predictions a sequence, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bert_clinical.nn.layers import dense, layer_norm
from bert_clinical.nn.tensorflow import tf
from bert_clinical.nn.variables import MASKED_LM_HEAD, NEXT_SENTENCE_HEAD

_DENOMINATOR_FLOOR = 1e-5
"""Google's addend that keeps a batch without any prediction from dividing by zero."""


def masked_lm_logits(
    weights: Mapping[str, tf.Tensor],
    vectors: tf.Tensor,
    embedding_table: tf.Tensor,
    activation: Callable[[tf.Tensor], tf.Tensor],
    compute_dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Returns float32 [rows, V] for vectors [rows, H] at predicted positions.

    Args:
      weights: the head's tensors by name.
      vectors: the encoder's output at those positions.
      embedding_table: float32 [V, H], the word embeddings.
      activation: the config's.
      compute_dtype: of the products.
    """
    transform = f"{MASKED_LM_HEAD}/transform"
    vectors = activation(
        dense(
            vectors,
            weights[f"{transform}/dense/kernel"],
            weights[f"{transform}/dense/bias"],
            compute_dtype,
        )
    )
    vectors = layer_norm(
        tf.cast(vectors, tf.float32),
        weights[f"{transform}/LayerNorm/gamma"],
        weights[f"{transform}/LayerNorm/beta"],
    )
    logits = tf.matmul(
        tf.cast(vectors, compute_dtype), tf.cast(embedding_table, compute_dtype), transpose_b=True
    )
    return tf.nn.bias_add(tf.cast(logits, tf.float32), weights[f"{MASKED_LM_HEAD}/output_bias"])


def next_sentence_logits(weights: Mapping[str, tf.Tensor], pooled_output: tf.Tensor) -> tf.Tensor:
    """Returns float32 [B, 2] for [B, H]: 0 is "the next sentence", 1 "a random one"."""
    product = tf.matmul(
        pooled_output, weights[f"{NEXT_SENTENCE_HEAD}/output_weights"], transpose_b=True
    )
    return tf.nn.bias_add(product, weights[f"{NEXT_SENTENCE_HEAD}/output_bias"])


@dataclass(frozen=True)
class PretrainingSums:
    """Sums over a batch or a part of it, float32 scalars; parts add up to the whole.

    Attributes:
      masked_lm_loss: weighted cross-entropies of the predictions.
      masked_lm_correct: weighted number of right predictions.
      masked_lm_weight: the weights.
      next_sentence_loss: cross-entropies.
      next_sentence_correct: number of right answers.
      examples: number of examples.
    """

    masked_lm_loss: tf.Tensor
    masked_lm_correct: tf.Tensor
    masked_lm_weight: tf.Tensor
    next_sentence_loss: tf.Tensor
    next_sentence_correct: tf.Tensor
    examples: tf.Tensor

    NAMES = (
        "masked_lm_loss",
        "masked_lm_correct",
        "masked_lm_weight",
        "next_sentence_loss",
        "next_sentence_correct",
        "examples",
    )

    def stacked(self) -> tf.Tensor:
        """Returns the sums as one tensor [6] in the order of `NAMES`."""
        return tf.stack([getattr(self, name) for name in self.NAMES])

    @classmethod
    def unstacked(cls, values: tf.Tensor) -> PretrainingSums:
        """Returns what `stacked` was made from."""
        return cls(**dict(zip(cls.NAMES, tf.unstack(values, num=len(cls.NAMES)), strict=True)))


def pretraining_sums(
    lm_logits: tf.Tensor,
    masked_lm_ids: tf.Tensor,
    masked_lm_weights: tf.Tensor,
    sentence_logits: tf.Tensor,
    next_sentence_labels: tf.Tensor,
) -> PretrainingSums:
    """Returns losses and hits of a batch, summed.

    Args:
      lm_logits: float32 [B * P, V], or for fewer predictions.
      masked_lm_ids: int32 [B, P], or those of the predictions alone.
      masked_lm_weights: float32 likewise, 0 for padding.
      sentence_logits: float32 [B, 2].
      next_sentence_labels: int32 [B, 1].
    """
    ids = tf.reshape(masked_lm_ids, [-1])
    lm_weights = tf.reshape(masked_lm_weights, [-1])
    labels = tf.reshape(next_sentence_labels, [-1])
    lm_losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=lm_logits)
    sentence_losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=sentence_logits
    )
    lm_hits = tf.argmax(lm_logits, axis=-1, output_type=tf.int32) == ids
    sentence_hits = tf.argmax(sentence_logits, axis=-1, output_type=tf.int32) == labels
    return PretrainingSums(
        masked_lm_loss=tf.reduce_sum(lm_losses * lm_weights),
        masked_lm_correct=tf.reduce_sum(tf.cast(lm_hits, tf.float32) * lm_weights),
        masked_lm_weight=tf.reduce_sum(lm_weights),
        next_sentence_loss=tf.reduce_sum(sentence_losses),
        next_sentence_correct=tf.reduce_sum(tf.cast(sentence_hits, tf.float32)),
        examples=tf.cast(tf.size(labels), tf.float32),
    )


def masked_lm_denominator(masked_lm_weights: tf.Tensor) -> tf.Tensor:
    """Returns what a whole batch's masked LM loss is divided by, from float32 weights [B, P]."""
    return tf.reduce_sum(masked_lm_weights) + _DENOMINATOR_FLOOR


def total_loss(
    sums: PretrainingSums, lm_denominator: tf.Tensor, batch_size: tf.Tensor
) -> tf.Tensor:
    """Returns a part's share of the batch's loss; the shares of all parts add up to it.

    Args:
      sums: of the part.
      lm_denominator: `masked_lm_denominator` of the whole batch.
      batch_size: float32, examples of the whole batch.
    """
    return sums.masked_lm_loss / lm_denominator + sums.next_sentence_loss / batch_size
