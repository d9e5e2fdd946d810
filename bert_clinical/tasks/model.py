"""The encoder with one linear layer for a task, its training step and its answers.

Dimensions: B batch, S sequence, H hidden, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bert_clinical import optimization
from bert_clinical.modeling import BertModel, create_variables
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.layers import Dropout
from bert_clinical.nn.packing import EXACT
from bert_clinical.nn.tensorflow import tf
from bert_clinical.nn.variables import bert_variable_shapes
from bert_clinical.tasks.data import NO_LABEL

HEAD_DROPOUT = 0.1
OUTPUT_WEIGHTS, OUTPUT_BIAS = "output_weights", "output_bias"

_HEAD_DEVIATION = 0.02
_POOLER = "bert/pooler/"
_WORD_EMBEDDINGS = "bert/embeddings/word_embeddings"

# The dropout seed counts steps, and places in the model below them.
_SITES_PER_STEP = 1 << 12

Batch = Mapping[str, tf.Tensor]


class TaskModel:
    """A classifier of texts, or of WordPieces.

    Args:
      config: the encoder's.
      weights: the encoder's by Google's names, with `output_weights` [L, H] and `output_bias` [L]
        if the layer is trained already. What is missing is drawn anew.
      num_labels: L.
      per_token: classify every WordPiece instead of the pooled text.
      gelu: "tanh" or "erf".
      random_seed: of what is drawn.
      sum_loss: the loss is the sum over all positions instead of the mean over the labelled.
      skip_padding: compute real tokens only. Not with `sum_loss`, which reads padding.

    Source: google-research/bert run_classifier.py, clinicalBERT run_ner.py.
    """

    def __init__(
        self,
        config: BertConfig,
        weights: Mapping[str, np.ndarray],
        *,
        num_labels: int,
        per_token: bool,
        gelu: str,
        random_seed: int,
        sum_loss: bool = False,
        skip_padding: bool = False,
    ) -> None:
        self.config = config
        self.num_labels = num_labels
        self.per_token = per_token
        self.sum_loss = sum_loss
        self._packed = EXACT if skip_padding and not sum_loss else None
        self._encoder = BertModel(config, gelu=gelu)
        shapes = bert_variable_shapes(config, heads=False)
        fresh: dict[str, tf.Variable] = {}
        if not all(name in weights for name in shapes):
            fresh = create_variables(config, random_seed=random_seed, heads=False)
        # A classifier of WordPieces reads no pooler: the optimizer is not to decay it.
        unread = [name for name in shapes if per_token and name.startswith(_POOLER)]
        self.variables = {
            name: tf.Variable(weights[name], name=name) if name in weights else fresh[name]
            for name in shapes
            if name not in unread
        }
        self._unread = {name: tf.zeros(shapes[name]) for name in unread}
        head = {
            OUTPUT_WEIGHTS: tf.random.stateless_truncated_normal(
                [num_labels, config.hidden_size],
                seed=[random_seed, len(shapes)],
                stddev=_HEAD_DEVIATION,
                alg="philox",
            ),
            OUTPUT_BIAS: tf.zeros([num_labels]),
        }
        for name, value in head.items():
            self.variables[name] = tf.Variable(weights.get(name, value), name=name)
        size = tf.TensorSpec([None, None], tf.int32)
        inputs = {"input_ids": size, "input_mask": size, "segment_ids": size}
        labels = size if per_token else tf.TensorSpec([None], tf.int32)
        self.features = {**inputs, "label_ids": labels}
        self._answer = tf.function(self._logits, autograph=False, input_signature=[inputs])

    def logits(self, batch: Batch) -> tf.Tensor:
        """Returns float32 [B, L], or [B, S, L], without dropout; `label_ids` are not needed."""
        return self._answer({name: batch[name] for name in batch if name != "label_ids"})

    def loss(
        self, weights: Mapping[str, tf.Tensor], batch: Batch, dropout_seed: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the loss of a batch, float32 [].

        Args:
          weights: float32 by name.
          batch: features by name, int32; labels of `NO_LABEL` do not count.
          dropout_seed: int64 [2]; None for no dropout.

        Differs: the original's NER sums over all positions, padding as a class of its own; here
          only labelled positions count, by their mean, unless `sum_loss`.
        """
        logits = self._apply(weights, batch, dropout_seed)
        labels = batch["label_ids"]
        counts = tf.cast(labels != NO_LABEL, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.maximum(labels, 0), logits=logits
        )
        total = tf.reduce_sum(losses * counts)
        return total if self.sum_loss else total / tf.maximum(tf.reduce_sum(counts), 1.0)

    def _logits(self, batch: Batch) -> tf.Tensor:
        return self._apply(self.variables, batch, None)

    def _apply(
        self, weights: Mapping[str, tf.Tensor], batch: Batch, dropout_seed: tf.Tensor | None
    ) -> tf.Tensor:
        output = self._encoder(
            {**weights, **self._unread},
            batch["input_ids"],
            batch["input_mask"],
            batch["segment_ids"],
            dropout_seed=dropout_seed,
            packed=self._packed,
        )
        hidden = output.sequence_output if self.per_token else output.pooled_output
        dropout = Dropout(dropout_seed, self.config.num_hidden_layers + 1)
        hidden = dropout(hidden, HEAD_DROPOUT)
        logits = tf.matmul(
            tf.reshape(hidden, [-1, self.config.hidden_size]),
            weights[OUTPUT_WEIGHTS],
            transpose_b=True,
        )
        logits = tf.nn.bias_add(logits, weights[OUTPUT_BIAS])
        shape = tf.shape(batch["input_ids"]) if self.per_token else tf.shape(hidden)[:1]
        return tf.reshape(logits, tf.concat([shape, [self.num_labels]], axis=0))


class TaskTraining:
    """Updates of a task's model, as compiled calls.

    Args:
      model: its variables are changed.
      schedule: the learning rate.
      random_seed: of the dropout masks.
      adam_bias_correction: correct the bias of Adam's moments; Google's programs do not.

    Attributes:
      slots: the optimizer's, by name.
    """

    def __init__(
        self,
        model: TaskModel,
        schedule: optimization.Schedule,
        *,
        random_seed: int,
        adam_bias_correction: bool = False,
    ) -> None:
        self._model = model
        self._schedule = schedule
        self._random_seed = random_seed
        self._adam_bias_correction = adam_bias_correction
        self.slots = optimization.create_slots(model.variables)
        self._step = tf.function(
            self._update,
            autograph=False,
            input_signature=[model.features, tf.TensorSpec([], tf.int64)],
        )

    def step(self, batch: Batch, step: int) -> float:
        """Makes the update number `step`, from 0, and returns the loss before it."""
        return float(self._step(batch, tf.constant(step, tf.int64)))

    def _update(self, batch: Batch, step: tf.Tensor) -> tf.Tensor:
        variables = self._model.variables
        seed = tf.stack([tf.constant(self._random_seed, tf.int64), step * _SITES_PER_STEP])
        weights = {name: tf.identity(value) for name, value in variables.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss = self._model.loss(weights, batch, seed)
        gradients = tape.gradient(loss, weights)
        # Google's norm counts the rows that the embeddings' gradient consists of, not their sums.
        rows = gradients[_WORD_EMBEDDINGS]
        norm = optimization.global_norm({**gradients, _WORD_EMBEDDINGS: rows.values})
        clipping = optimization.clip_scale(norm)
        rate = self._schedule.rate_at(step)
        corrections = optimization.bias_corrections(step) if self._adam_bias_correction else None
        for name, variable in variables.items():
            first, second = (self.slots[f"{name}/{slot}"] for slot in optimization.SLOTS)
            gradient = tf.convert_to_tensor(gradients[name])
            optimization.apply_adam(
                variable, first, second, gradient, clipping, rate,
                decay=optimization.decays(name), corrections=corrections,
            )  # fmt: skip
        return loss
