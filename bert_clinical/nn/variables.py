"""The variables of a BERT for pretraining by their names in Google's checkpoints."""

from __future__ import annotations

import re
from typing import Protocol

MASKED_LM_HEAD = "cls/predictions"
NEXT_SENTENCE_HEAD = "cls/seq_relationship"
HEADS = (MASKED_LM_HEAD, NEXT_SENTENCE_HEAD)

SLOT_SUFFIXES = (
    "adam_m",
    "adam_v",
    "BERTAdam",
    "BERTAdam_1",
    "AdamWeightDecayOptimizer",
    "AdamWeightDecayOptimizer_1",
    "Adam",
    "Adam_1",
    "LAMB",
    "LAMB_1",
)
"""Last parts of the names under which optimizers keep their moments: `<variable>/<suffix>`."""

_STEP_LIKE = re.compile(
    r"(global_step|(.*/)?((current_)?loss_scale|((loss_scale|num)_)?(good|bad)_steps|[^/]+_power))"
)


class ModelShape(Protocol):
    """What a config must tell for the shapes of its variables; `BertConfig` does."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int


def bert_variable_shapes(config: ModelShape, *, heads: bool = True) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every variable of a model, in the order in which Google creates them.

    Args:
      config: a `BertConfig`, or anything with its sizes.
      heads: with those of the masked LM and next sentence heads; the masked LM logits use the word
        embeddings again and have only a bias of their own.
    """
    hidden, inner = config.hidden_size, config.intermediate_size

    def dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}

    def layer_norm(name: str) -> dict[str, tuple[int, ...]]:
        return {f"{name}/LayerNorm/beta": (hidden,), f"{name}/LayerNorm/gamma": (hidden,)}

    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (config.vocab_size, hidden),
        "bert/embeddings/token_type_embeddings": (config.type_vocab_size, hidden),
        "bert/embeddings/position_embeddings": (config.max_position_embeddings, hidden),
    }
    shapes |= layer_norm("bert/embeddings")
    for index in range(config.num_hidden_layers):
        layer = f"bert/encoder/layer_{index}"
        for part in ("query", "key", "value"):
            shapes |= dense(f"{layer}/attention/self/{part}", hidden, hidden)
        shapes |= dense(f"{layer}/attention/output/dense", hidden, hidden)
        shapes |= layer_norm(f"{layer}/attention/output")
        shapes |= dense(f"{layer}/intermediate/dense", hidden, inner)
        shapes |= dense(f"{layer}/output/dense", inner, hidden)
        shapes |= layer_norm(f"{layer}/output")
    shapes |= dense("bert/pooler/dense", hidden, hidden)
    if heads:
        transform = f"{MASKED_LM_HEAD}/transform"
        shapes |= dense(f"{transform}/dense", hidden, hidden)
        shapes |= layer_norm(transform)
        shapes[f"{MASKED_LM_HEAD}/output_bias"] = (config.vocab_size,)
        shapes[f"{NEXT_SENTENCE_HEAD}/output_weights"] = (2, hidden)
        shapes[f"{NEXT_SENTENCE_HEAD}/output_bias"] = (2,)
    return shapes


def slot_owner(name: str) -> str | None:
    """Returns the variable that an optimizer slot's name belongs to, None for other names."""
    owner, _, suffix = name.rpartition("/")
    return owner if owner and suffix in SLOT_SUFFIXES else None


def is_step_like(name: str) -> bool:
    """Tells whether `name` is the step counter, a loss scale or an optimizer's running power.

    Loss scales and their counters are ours, TensorFlow's and NVIDIA's.
    """
    return _STEP_LIKE.fullmatch(name) is not None
