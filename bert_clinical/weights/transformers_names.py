"""What a variable and a setting of Google's BERT are called in transformers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import MASKED_LM_HEAD, NEXT_SENTENCE_HEAD
from data_prep.common.errors import UserError
from data_prep.common.json_files import require_shape

LAYER_NORM_EPSILON = 1e-12

TIED_TO = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
"""Weights that a folder may hold twice: each is a copy of the other named here."""

BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
"""Counters that old folders hold among the weights."""

_SHARED_SETTINGS = (
    "attention_probs_dropout_prob",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
)

_SHAPE = {
    "model_type": (str, type(None)),
    "position_embedding_type": (str, type(None)),
    "layer_norm_eps": float,
    "hidden_act": str,
}
_GELU_NAMES = {"tanh": "gelu_new", "erf": "gelu"}
_ACTIVATIONS = {
    "gelu": ("gelu", "erf"),
    "gelu_python": ("gelu", "erf"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_fast": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", None),
    "tanh": ("tanh", None),
    "linear": ("linear", None),
}

_OF_DATA_PARALLEL = re.compile(r"^module\.")
_WITHOUT_PREFIX = re.compile(r"^(embeddings|encoder|pooler)\.")


class TransformersName(NamedTuple):
    """A weight in transformers; `transposed` where its axes are in the other order there."""

    name: str
    transposed: bool


def transformers_name(variable: str) -> TransformersName:
    """Returns what a variable of `bert_variable_shapes` is called in transformers."""
    name = re.sub(r"layer_(\d+)", r"layer/\1", variable)
    if name == f"{NEXT_SENTENCE_HEAD}/output_weights":
        name = f"{NEXT_SENTENCE_HEAD}/weight"
    elif name in (f"{MASKED_LM_HEAD}/output_bias", f"{NEXT_SENTENCE_HEAD}/output_bias"):
        name = name.replace("output_bias", "bias")
    elif name.endswith("_embeddings"):
        name += "/weight"
    ends = {"kernel": "weight", "gamma": "weight", "beta": "bias"}
    stem, _, last = name.rpartition("/")
    name = f"{stem}/{ends.get(last, last)}"
    return TransformersName(name.replace("/", "."), transposed=last == "kernel")


def modern_names(names: Iterable[str]) -> dict[str, str]:
    """Returns for each name in a folder the one that transformers uses today.

    Folders of 2018 to 2020 say `gamma` and `beta`; a bare encoder lacks the prefix `bert.`; models
    that were saved from PyTorch's `DataParallel` have `module.` before it all.
    """
    modern = {}
    for name in names:
        new = _OF_DATA_PARALLEL.sub("", name)
        new = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", new)
        new = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", new)
        if _WITHOUT_PREFIX.match(new):
            new = f"bert.{new}"
        modern[name] = new
    return modern


def to_transformers_config(
    config: BertConfig, *, gelu: str, architecture: str, dtype: str, pad_token_id: int
) -> dict[str, Any]:
    """Returns `config.json` for a model.

    Args:
      config: Google's; keys that it has beyond Google's own are left out.
      gelu: "tanh" or "erf", the form the model was trained with.
      architecture: transformers' class for it.
      dtype: what the weights are stored in.
      pad_token_id: of `[PAD]`.
    """
    activation = config.activation_name()
    return {
        "architectures": [architecture],
        "model_type": "bert",
        **{name: getattr(config, name) for name in _SHARED_SETTINGS},
        "hidden_act": _GELU_NAMES[gelu] if activation == "gelu" else activation,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "pad_token_id": pad_token_id,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "use_cache": True,
        "dtype": dtype,
    }


def from_transformers_config(
    settings: Mapping[str, Any], where: str
) -> tuple[BertConfig, str | None]:
    """Returns Google's config for a `config.json`, and the form of GELU, None without GELU.

    Args:
      settings: the file's object.
      where: its path, for errors.

    Raises:
      UserError: it describes a model that is not Google's BERT, named by what it is.
    """
    require_shape(settings, _SHAPE, where)
    kind = settings.get("model_type")
    if kind is None and "num_hidden_layers" in settings and "layer_norm_eps" not in settings:
        raise UserError(
            f"{where}: has no model_type; this looks like Google's bert_config.json, expected the "
            "config.json of a transformers folder"
        )
    if kind != "bert":
        raise UserError(
            f"{where}: found a model of type {kind!r:.60}, expected 'bert'; only Google's "
            "architecture can be converted"
        )
    positions = settings.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UserError(
            f"{where}: found position_embedding_type {positions!r:.40}, expected 'absolute'; "
            "BERT's checkpoint format knows no relative positions"
        )
    for name in ("is_decoder", "add_cross_attention"):
        if settings.get(name):
            raise UserError(f"{where}: found {name}, expected a bidirectional encoder")
    epsilon = settings.get("layer_norm_eps", LAYER_NORM_EPSILON)
    if epsilon != LAYER_NORM_EPSILON:
        raise UserError(
            f"{where}: found layer_norm_eps {epsilon!r}, expected {LAYER_NORM_EPSILON}; Google's "
            "format cannot say another one"
        )
    activation = settings.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise UserError(
            f"{where}: found hidden_act {activation!r:.20}, expected one of "
            f"{', '.join(_ACTIVATIONS)}"
        )
    name, gelu = _ACTIVATIONS[activation]
    defaults = BertConfig(vocab_size=30522, type_vocab_size=2).to_dict()
    values = {key: settings.get(key, defaults[key]) for key in _SHARED_SETTINGS}
    config = BertConfig.from_dict({**values, "hidden_act": name})
    config.validate(where)
    return config, gelu
