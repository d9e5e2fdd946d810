"""The BERT encoder as a function of its weights.

Dimensions: B batch, S sequence, P chosen positions of it, R rows that are computed, H hidden, N
attention heads, D = H / N.
The weights are tensors by Google's variable names, so that a checkpoint, a gradient and an
optimizer slot all speak of the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.layers import (
    Dropout,
    dense,
    gelu_erf,
    gelu_erf_compiled,
    gelu_tanh,
    gelu_tanh_compiled,
    layer_norm,
)
from bert_clinical.nn.packing import Chosen, Layout, Packed, PackedShape, Padded
from bert_clinical.nn.tensorflow import tf
from bert_clinical.nn.variables import bert_variable_shapes

__all__ = ["BertConfig", "BertModel", "BertOutput", "create_variables", "get_activation"]

GELU_FORMS = ("tanh", "erf")


def create_variables(
    config: BertConfig, *, random_seed: int, heads: bool = True
) -> dict[str, tf.Variable]:
    """Returns new variables of a model by name, in the order in which Google creates them.

    Kernels and embeddings start from a normal distribution cut at two deviations, drawn from the
    seed and the variable's place alone; biases and LayerNorm from 0 and 1.

    Args:
      config: the model.
      random_seed: of the draws.
      heads: with the masked LM and next sentence heads.
    """
    variables = {}
    for index, (name, shape) in enumerate(bert_variable_shapes(config, heads=heads).items()):
        if name.endswith(("beta", "bias")):
            value = tf.zeros(shape)
        elif name.endswith("gamma"):
            value = tf.ones(shape)
        else:
            value = tf.random.stateless_truncated_normal(
                shape, seed=[random_seed, index], stddev=config.initializer_range, alg="philox"
            )
        variables[name] = tf.Variable(value, name=name)
    return variables


def get_activation(
    name: str, gelu: str = "tanh", *, compiled: bool = False
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the activation that a config names.

    Args:
      name: as `BertConfig.activation_name` gives it.
      gelu: "tanh", Google's approximation since February 2019, or "erf", the exact form that
        BioBERT was trained with and transformers calls `gelu`.
      compiled: GELU of many values is compiled by XLA, for training on a CPU.

    Raises:
      ValueError: there is no such activation.
    """
    if gelu not in GELU_FORMS:
        raise ValueError(f"gelu is {gelu!r}, expected one of {GELU_FORMS}")
    forms = (gelu_tanh, gelu_tanh_compiled) if gelu == "tanh" else (gelu_erf, gelu_erf_compiled)
    activations: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
        "gelu": forms[compiled],
        "relu": tf.nn.relu,
        "tanh": tf.tanh,
        "linear": tf.identity,
    }
    if name not in activations:
        raise ValueError(f"activation {name!r}, expected one of {sorted(activations)}")
    return activations[name]


@dataclass(frozen=True)
class BertOutput:
    """What the encoder answers, all float32.

    Attributes:
      pooled_output: [B, H], the first position through the tanh pooler.
      all_encoder_layers: each layer's output, [B, S, H]; the last one's [B, P, H] if it was asked
        for at some positions only.
      embedding_output: [B, S, H], what the first layer reads.
    """

    pooled_output: tf.Tensor
    all_encoder_layers: tuple[tf.Tensor, ...]
    embedding_output: tf.Tensor

    @property
    def sequence_output(self) -> tf.Tensor:
        """The last layer's output, [B, S, H] or [B, P, H]."""
        return self.all_encoder_layers[-1]


class BertModel:
    """A post-LayerNorm transformer encoder with embeddings and pooler.

    Args:
      config: sizes and dropout rates.
      gelu: form of `gelu` where the config's activation is that one.
      compute_dtype: of products and activations; LayerNorm, softmax and the outputs are float32.
      recompute_grad: keep only each layer's input for the gradient and compute the rest again.
      compile_gelu: as `get_activation` has it. Not for a model that is saved as a graph.

    Source: google-research/bert modeling.py.
    Differs: the mask is added as [B, 1, 1, S] and never spread over the queries; the factor
    1/sqrt(D) is applied to the queries, exact for the usual D of 64; padding can be left out.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        gelu: str = "tanh",
        compute_dtype: tf.DType = tf.float32,
        recompute_grad: bool = False,
        compile_gelu: bool = False,
    ) -> None:
        self.config = config
        self.activation = get_activation(config.activation_name(), gelu, compiled=compile_gelu)
        self.compute_dtype = compute_dtype
        self.recompute_grad = recompute_grad

    def __call__(
        self,
        weights: Mapping[str, tf.Tensor],
        input_ids: tf.Tensor,
        input_mask: tf.Tensor | None = None,
        token_type_ids: tf.Tensor | None = None,
        *,
        dropout_seed: tf.Tensor | None = None,
        last_positions: tf.Tensor | None = None,
        packed: PackedShape | None = None,
    ) -> BertOutput:
        """Returns the encoder's outputs.

        Args:
          weights: float32 tensors or variables by name.
          input_ids: int32 [B, S], S up to `max_position_embeddings`.
          input_mask: int32 [B, S], 1 where there is a token; all ones if None.
          token_type_ids: int32 [B, S]; zeros if None.
          dropout_seed: int64 [2] that all dropout masks follow from; None for no dropout.
          last_positions: int32 [B, P], position 0 first: where the last layer's output is needed.
            It still reads the whole sequence, but is computed nowhere else. None for everywhere.
          packed: room for the real tokens, which alone are computed; outputs at padding are 0. None
            for padding to be computed too.
        """
        weights = {name: tf.convert_to_tensor(value) for name, value in weights.items()}
        if input_mask is None:
            input_mask = tf.ones(tf.shape(input_ids), tf.int32)
        if token_type_ids is None:
            token_type_ids = tf.zeros(tf.shape(input_ids), tf.int32)
        heads, count = self.config.num_attention_heads, self.config.num_hidden_layers
        layout: Layout = Padded(input_mask, heads)
        if packed is not None:
            layout = Packed(input_mask, heads, packed)
        hidden = self._embed(weights, input_ids, token_type_ids, layout, Dropout(dropout_seed, 0))
        outputs = [tf.cast(layout.batch(hidden), tf.float32)]
        for index in range(count):
            asking: Layout | Chosen = layout
            if last_positions is not None and index == count - 1:
                asking = layout.chosen(last_positions)
            hidden = self._layer(weights, index, hidden, layout, asking, dropout_seed)
            outputs.append(tf.cast(asking.batch(hidden), tf.float32))
        pooled = tf.tanh(
            dense(
                outputs[-1][:, 0],
                weights["bert/pooler/dense/kernel"],
                weights["bert/pooler/dense/bias"],
                self.compute_dtype,
            )
        )
        return BertOutput(
            pooled_output=tf.cast(pooled, tf.float32),
            all_encoder_layers=tuple(outputs[1:]),
            embedding_output=outputs[0],
        )

    def _embed(
        self,
        weights: Mapping[str, tf.Tensor],
        input_ids: tf.Tensor,
        token_type_ids: tf.Tensor,
        layout: Layout,
        dropout: Dropout,
    ) -> tf.Tensor:
        """Returns the embedded tokens, compute_dtype [R, H]."""
        words = tf.gather(weights["bert/embeddings/word_embeddings"], layout.rows(input_ids))
        segments = tf.matmul(
            tf.one_hot(layout.rows(token_type_ids), self.config.type_vocab_size),
            weights["bert/embeddings/token_type_embeddings"],
        )
        total = layer_norm(
            layout.add_positions(words + segments, weights["bert/embeddings/position_embeddings"]),
            weights["bert/embeddings/LayerNorm/gamma"],
            weights["bert/embeddings/LayerNorm/beta"],
        )
        return tf.cast(dropout(total, self.config.hidden_dropout_prob), self.compute_dtype)

    def _layer(
        self,
        weights: Mapping[str, tf.Tensor],
        index: int,
        hidden: tf.Tensor,
        layout: Layout,
        asking: Layout | Chosen,
        dropout_seed: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns the output of layer `index` in the rows of `asking`, compute_dtype [., H]."""
        prefix = f"bert/encoder/layer_{index}/"
        own = {
            name.removeprefix(prefix): value
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        names = list(own)

        def compute(hidden: tf.Tensor, *values: tf.Tensor) -> tf.Tensor:
            dropout = Dropout(dropout_seed, index + 1)
            layer = dict(zip(names, values, strict=True))
            return self._transformer_layer(layer, hidden, layout, asking, dropout)

        if self.recompute_grad:
            compute = tf.recompute_grad(compute)
        return compute(hidden, *own.values())

    def _transformer_layer(
        self,
        layer: Mapping[str, tf.Tensor],
        hidden: tf.Tensor,
        layout: Layout,
        asking: Layout | Chosen,
        dropout: Dropout,
    ) -> tf.Tensor:
        rate = self.config.hidden_dropout_prob

        def project(name: str, value: tf.Tensor) -> tf.Tensor:
            return dense(value, layer[f"{name}/kernel"], layer[f"{name}/bias"], self.compute_dtype)

        def add_and_norm(name: str, update: tf.Tensor, base: tf.Tensor) -> tf.Tensor:
            total = tf.cast(dropout(update, rate), tf.float32) + tf.cast(base, tf.float32)
            normed = layer_norm(
                total, layer[f"{name}/LayerNorm/gamma"], layer[f"{name}/LayerNorm/beta"]
            )
            return tf.cast(normed, self.compute_dtype)

        asked = asking.take(hidden) if isinstance(asking, Chosen) else hidden
        query = project("attention/self/query", asked) * (1.0 / math.sqrt(self._depth))
        groups = zip(
            asking.heads(query),
            layout.heads(project("attention/self/key", hidden)),
            layout.heads(project("attention/self/value", hidden)),
            layout.biases,
            strict=True,
        )
        context = asking.joined([self._attention(*group, dropout) for group in groups])
        attended = add_and_norm(
            "attention/output", project("attention/output/dense", context), asked
        )
        inner = self.activation(project("intermediate/dense", attended))
        return add_and_norm("output", project("output/dense", inner), attended)

    def _attention(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        mask_bias: tf.Tensor,
        dropout: Dropout,
    ) -> tf.Tensor:
        """Returns the attended values of some sequences, of the shape of `query`."""
        scores = tf.matmul(query, key, transpose_b=True)
        probabilities = tf.nn.softmax(tf.cast(scores, tf.float32) + mask_bias)
        probabilities = tf.cast(
            dropout(probabilities, self.config.attention_probs_dropout_prob), self.compute_dtype
        )
        return tf.matmul(probabilities, value)

    @property
    def _depth(self) -> int:
        return self.config.hidden_size // self.config.num_attention_heads
