"""How many floating point operations a step's products of matrices take; knows no TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

from bert_clinical.nn.config import BertConfig

_FORWARD_AND_BACKWARD = 3
"""The gradient of a product takes two products of its size."""


def training_flops(config: BertConfig, input_mask: np.ndarray, max_predictions_per_seq: int) -> Any:
    """Returns the operations that a step needs: a multiplication and an addition are two.

    Those of real WordPieces alone, however the step is computed: padding, and what
    `--recompute_grad` computes again, do not count. Only products of matrices do.

    Args:
      config: the model.
      input_mask: 1 at real WordPieces, int32 [..., B, S].
      max_predictions_per_seq: the masked LM's, computed at all of them.

    Returns:
      float64 [...].
    """
    lengths = input_mask.sum(axis=-1).astype(np.float64)
    examples = input_mask.shape[-2]
    tokens = lengths.sum(axis=-1)
    width, inner = config.hidden_size, config.intermediate_size
    # The last layer is computed at the predictions and the first position alone.
    last_tokens = examples * (max_predictions_per_seq + 1)
    keys_and_values = 4 * width**2
    query_to_output = 4 * width**2 + 4 * width * inner
    layer = tokens * (keys_and_values + query_to_output) + 4 * width * (lengths**2).sum(axis=-1)
    last_layer = (
        tokens * keys_and_values
        + last_tokens * query_to_output
        + 4 * width * (max_predictions_per_seq + 1) * tokens
    )
    predictions = examples * max_predictions_per_seq
    heads = 2 * predictions * width * (width + config.vocab_size)
    heads += 2 * examples * width * (width + 2)
    forward = (config.num_hidden_layers - 1) * layer + last_layer + heads
    return _FORWARD_AND_BACKWARD * forward
