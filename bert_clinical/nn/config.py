"""The configuration of a BERT model as `bert_config.json` holds it; knows no TensorFlow."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object

ACTIVATIONS = ("gelu", "relu", "tanh", "linear")

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_LARGEST_SIZE = (1 << 31) - 1
_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob")


class BertConfig:
    """Sizes and rates of a model.

    Args:
      vocab_size: entries of the vocabulary.
      hidden_size: width of the encoder's layers and of the pooler.
      num_hidden_layers: layers of the encoder.
      num_attention_heads: attention heads of a layer.
      intermediate_size: width of the feed-forward layers.
      hidden_act: "gelu", "relu", "tanh", "linear" or None, the last two alike.
      hidden_dropout_prob: dropout of embeddings and dense layers.
      attention_probs_dropout_prob: dropout of the attention probabilities.
      max_position_embeddings: longest sequence the model can take, in WordPieces.
      type_vocab_size: number of segments.
      initializer_range: standard deviation of the truncated normal that weights start from.

    Source: google-research/bert modeling.py.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_act: str | None = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 16,
        initializer_range: float = 0.02,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range

    @classmethod
    def from_dict(cls, json_object: Mapping[str, Any]) -> BertConfig:
        """Returns a config with the values given; unknown keys stay, as in Google's."""
        config = cls(vocab_size=json_object.get("vocab_size"))  # type: ignore[arg-type]
        config.__dict__.update(json_object)
        return config

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> BertConfig:
        """Reads a config, and checks it.

        Raises:
          UserError: the file cannot be read, is not JSON, or describes no model.

        Differs: Google's reads any object and fails later.
        """
        value = read_json_object(Path(json_file), advice="expected a bert_config.json")
        if any(hasattr(cls, name) for name in value):
            raise UserError(f"{json_file}: has a member that no bert_config.json has")
        config = cls.from_dict(value)
        config.validate(str(json_file))
        return config

    def validate(self, where: str) -> None:
        """Checks that the values describe a model.

        Args:
          where: what to name in the error, as the file's path.

        Raises:
          UserError: a size is missing or not positive, heads do not divide the width, a rate is
            outside [0, 1), or the activation is unknown.
        """
        for name in _SIZES:
            value = getattr(self, name)
            if value is None:
                raise UserError(f"{where}: {name} is missing; add it as in the model's own config")
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(
                    f"{where}: {name} is {value!r:.60}, expected a whole number above 0"
                )
            if value > _LARGEST_SIZE:
                raise UserError(f"{where}: {name} is {value!s:.60}, more than any model has")
        for name in _RATES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise UserError(
                    f"{where}: {name} is {value!r:.60}, expected a number from 0 to below 1"
                )
        deviation = self.initializer_range
        if not isinstance(deviation, int | float) or deviation < 0:
            raise UserError(
                f"{where}: initializer_range is {deviation!r:.60}, expected a number >= 0"
            )
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"{where}: hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.activation_name() not in ACTIVATIONS:
            raise UserError(
                f"{where}: hidden_act is {self.hidden_act!r:.60}, expected one of "
                f"{', '.join(ACTIVATIONS)}"
            )

    def activation_name(self) -> str:
        """Returns `hidden_act` in lower case, "linear" where there is none."""
        return str(self.hidden_act).lower() if self.hidden_act else "linear"

    def to_dict(self) -> dict[str, Any]:
        """Returns all values, those of unknown keys too."""
        return copy.deepcopy(self.__dict__)

    def to_json_string(self) -> str:
        """Returns the values as indented, sorted JSON with a newline at its end."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
