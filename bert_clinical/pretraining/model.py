"""Encoder and pretraining heads: from a batch to losses and gradients."""

from __future__ import annotations

from collections.abc import Mapping

from bert_clinical.modeling import BertModel
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.heads import (
    PretrainingSums,
    masked_lm_logits,
    next_sentence_logits,
    pretraining_sums,
    total_loss,
)
from bert_clinical.nn.packing import EXACT, PackedShape
from bert_clinical.nn.precision import compute_dtype
from bert_clinical.nn.tensorflow import tf

WORD_EMBEDDINGS = "bert/embeddings/word_embeddings"

Batch = Mapping[str, tf.Tensor]
Tensors = dict[str, tf.Tensor]


class PretrainingModel:
    """Encoder and heads: from a batch to the sums that losses and accuracies are made of.

    Args:
      config: the model.
      gelu: "tanh" or "erf".
      precision: "float32", "mixed_bfloat16" or "mixed_float16".
      recompute_grad: trade time for memory, layer by layer.
      compile_gelu: faster on a CPU, where the step is not compiled as a whole.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        gelu: str = "tanh",
        precision: str = "float32",
        recompute_grad: bool = False,
        compile_gelu: bool = False,
    ) -> None:
        self.compute_dtype = compute_dtype(precision)
        self.encoder = BertModel(
            config, gelu=gelu, compute_dtype=self.compute_dtype, recompute_grad=recompute_grad,
            compile_gelu=compile_gelu,
        )  # fmt: skip

    def sums(
        self,
        weights: Mapping[str, tf.Tensor],
        batch: Batch,
        *,
        dropout_seed: tf.Tensor | None = None,
        output_embeddings: tf.Tensor | None = None,
        packed: PackedShape | None = None,
    ) -> PretrainingSums:
        """Returns losses and hits of a batch, summed.

        Args:
          weights: float32 by name.
          batch: features by name, int32 and float32 [B, ...].
          dropout_seed: int64 [2]; None for none.
          output_embeddings: [V, H] for the masked LM logits; the word embeddings if None.
          packed: room for the real tokens; None for padding to be computed too.
        """
        # The losses read the last layer at the predictions alone, the pooler at the first position.
        predicted = batch["masked_lm_positions"]
        outputs = self.encoder(
            weights,
            batch["input_ids"],
            batch["input_mask"],
            batch["segment_ids"],
            dropout_seed=dropout_seed,
            last_positions=tf.pad(predicted, [[0, 0], [1, 0]]),
            packed=packed,
        )
        vectors = tf.reshape(outputs.sequence_output[:, 1:], [-1, self.encoder.config.hidden_size])
        ids, lm_weights = batch["masked_lm_ids"], batch["masked_lm_weights"]
        if packed == EXACT:
            counts = lm_weights != 0
            ids, lm_weights = tf.boolean_mask(ids, counts), tf.boolean_mask(lm_weights, counts)
            vectors = tf.boolean_mask(vectors, tf.reshape(counts, [-1]))
        lm_logits = masked_lm_logits(
            weights,
            vectors,
            weights[WORD_EMBEDDINGS] if output_embeddings is None else output_embeddings,
            self.encoder.activation,
            self.compute_dtype,
        )
        return pretraining_sums(
            lm_logits,
            ids,
            lm_weights,
            next_sentence_logits(weights, outputs.pooled_output),
            batch["next_sentence_labels"],
        )

    def gradients(
        self,
        weights: Mapping[str, tf.Tensor],
        batch: Batch,
        *,
        lm_denominator: tf.Tensor,
        batch_size: tf.Tensor,
        dropout_seed: tf.Tensor | None,
        loss_scale: tf.Tensor,
        packed: PackedShape | None = None,
    ) -> tuple[Tensors, tf.Tensor]:
        """Returns the gradients of a part's share of the batch's loss, and its stacked sums.

        The gradients are times `loss_scale`.

        The word embeddings are read by the first layer and again by the logits. The
        logits make their gradient dense, so the few rows from the first layer are added to it.
        """
        inputs = dict(weights)
        inputs[WORD_EMBEDDINGS] = tf.identity(weights[WORD_EMBEDDINGS])
        output_embeddings = tf.identity(weights[WORD_EMBEDDINGS])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            tape.watch(output_embeddings)
            sums = self.sums(
                inputs, batch, dropout_seed=dropout_seed, output_embeddings=output_embeddings,
                packed=packed,
            )  # fmt: skip
            loss = total_loss(sums, lm_denominator, batch_size) * loss_scale
        gradients, dense = tape.gradient(loss, (inputs, output_embeddings))
        rows = gradients[WORD_EMBEDDINGS]
        gradients[WORD_EMBEDDINGS] = tf.tensor_scatter_nd_add(
            dense, rows.indices[:, None], rows.values
        )
        return gradients, sums.stacked()
