"""What a training run needs in memory, and which settings would make it fit; knows no TensorFlow.

Dimensions: T tokens of a part of the batch, H hidden, I intermediate, N heads, S sequence, P
predictions, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import bert_variable_shapes
from bert_clinical.pretraining.options import TrainingOptions

_FLOAT32 = 4
_RESERVE = 0.4e9
"""Libraries, their work space and fragments of the allocator, in bytes."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device.

    Attributes:
      parameters: number of weights (not bytes).
      weights: the variables, and their copies in the type of the products.
      slots: the optimizer's moments.
      gradients: those of a batch, and of a part beside it when the batch is divided.
      activations: what is kept from the forward pass for the gradient.
      temporary: the largest that is needed besides for a moment, and a reserve.
    """

    parameters: int
    weights: float
    slots: float
    gradients: float
    activations: float
    temporary: float

    @property
    def total(self) -> float:
        """All bytes together."""
        return self.weights + self.slots + self.gradients + self.activations + self.temporary


def plan_memory(config: BertConfig, options: TrainingOptions) -> MemoryPlan:
    """Returns what a run needs, from the sizes of what its gradient keeps.

    Args:
      config: the model.
      options: batch, lengths, precision and the settings that save memory.
    """
    parameters = sum(math.prod(shape) for shape in bert_variable_shapes(config).values())
    mixed = options.precision != "float32"
    number = 2 if mixed else _FLOAT32
    parts = options.gradient_accumulation_steps
    batch = math.ceil(options.train_batch_size / parts)
    tokens = batch * options.max_seq_length
    width, inner = config.hidden_size, config.intermediate_size
    # The last layer is computed at the predictions and the first position alone.
    last_tokens = batch * (options.max_predictions_per_seq + 1)
    scores_per_token = config.num_attention_heads * options.max_seq_length
    attention = tokens * scores_per_token
    logits = batch * options.max_predictions_per_seq * config.vocab_size
    mask = 1 if config.hidden_dropout_prob else 0
    # A LayerNorm keeps its normalized values in float32; its output is the next product's input.
    after_norm = width * (mask + _FLOAT32 + number)
    dropped = (1 + number) if config.attention_probs_dropout_prob else (number if mixed else 0)
    of_keys = tokens * 2 * number * width  # and of values
    of_query = (
        2 * number * width  # query, context
        + scores_per_token * (_FLOAT32 + dropped)
        + 2 * after_norm
        + 2 * number * inner
    )
    layers = config.num_hidden_layers
    layer, last_layer = of_keys + tokens * of_query, of_keys + last_tokens * of_query
    if options.recompute_grad:
        encoder = layers * tokens * width * number + (layer if layers > 1 else last_layer)
    else:
        encoder = (layers - 1) * layer + last_layer
    embeddings = tokens * (after_norm + config.type_vocab_size * _FLOAT32)
    word_embeddings = config.vocab_size * width * _FLOAT32
    backward = 3 * tokens * max(inner, width) * number + 2 * attention * _FLOAT32
    update = 3 * word_embeddings
    return MemoryPlan(
        parameters=parameters,
        weights=parameters * (_FLOAT32 + (number if mixed else 0)),
        slots=parameters * 2 * _FLOAT32,
        gradients=parameters * _FLOAT32 * (2 if parts > 1 else 1),
        activations=encoder + embeddings + 2 * logits * _FLOAT32,
        temporary=max(backward, update) + _RESERVE,
    )


def settings_that_fit(
    config: BertConfig, options: TrainingOptions, device_bytes: float
) -> list[str]:
    """Returns flags, the least costly first, with each of which the run fits the device."""
    found = []
    batch = options.train_batch_size
    divisors = [n for n in range(2, batch + 1) if batch % n == 0]
    parts = [n for n in divisors if n > options.gradient_accumulation_steps]
    candidates: list[dict[str, Any]] = [
        {"precision": "mixed_bfloat16"},
        {"recompute_grad": True},
        *({"gradient_accumulation_steps": n} for n in parts),
        *({"gradient_accumulation_steps": n, "recompute_grad": True} for n in parts),
    ]
    for changes in candidates:
        changed = dataclasses.replace(options, **changes)
        if changed != options and plan_memory(config, changed).total <= device_bytes:
            found.append(" ".join(_flag(name, value) for name, value in changes.items()))
    # Where a number of parts fits, a larger number fits too: only the smallest is shown.
    divided = [flags for flags in found if "accumulation" in flags]
    return [flags for flags in found if "accumulation" not in flags] + divided[:1]


def plan_lines(
    config: BertConfig,
    options: TrainingOptions,
    *,
    records: int,
    padding: float,
    device_bytes: float | None,
    device: str,
) -> list[str]:
    """Returns what `--plan` prints.

    Args:
      config: the model.
      options: the settings.
      records: examples in the data.
      padding: its share of their positions.
      device_bytes: the memory to fit; None if it is not known.
      device: what to call it.
    """
    plan = plan_memory(config, options)
    lines = [f"Parameters: {plan.parameters:,}"]
    for name in ("weights", "slots", "gradients", "activations", "temporary"):
        lines.append(f"{name.capitalize():12} {_gigabytes(getattr(plan, name)):>10}")
    lines.append(f"{'Together':12} {_gigabytes(plan.total):>10}")
    if device_bytes is not None:
        fits = plan.total <= device_bytes
        lines.append(f"{'Fits' if fits else 'Does not fit'} {device} of {_gigabytes(device_bytes)}")
        if not fits:
            choices = settings_that_fit(config, options, device_bytes)
            advice = "; or ".join(choices) if choices else "none of the settings; a smaller model"
            lines.append(f"Would fit with: {advice}")
    told = "left out; the memory is that of a batch without any"
    if not options.skip_padding:
        told = "computed; --skip_padding would leave it out"
    lines.append(f"Padding: {padding:.1%} of the positions, {told}")
    epoch = records / options.train_batch_size
    passes = options.num_train_steps / epoch
    lines.append(
        f"Data: {records:,} examples, {epoch:,.0f} steps each pass; {options.num_train_steps:,} "
        f"steps are {passes:,.2f} passes"
    )
    return lines


def _flag(name: str, value: object) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
