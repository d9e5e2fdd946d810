"""Where new entries stand in a vocabulary, and what their weights begin with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bert_clinical.extension.selection import Entry
from bert_clinical.extension.settings import RANDOM, ExtensionSettings
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import MASKED_LM_HEAD
from bert_clinical.weights.drawing import truncated_normal
from bert_clinical.weights.pretrained import WORD_EMBEDDINGS

OUTPUT_BIAS = f"{MASKED_LM_HEAD}/output_bias"

_UNUSED = re.compile(r"\[unused\d+\]")


class Extended(NamedTuple):
    """A vocabulary with new entries.

    Attributes:
      tokens: in the order of their ids.
      ids: of the new entries.
      vocab_size: rows of the embedding; those beyond the tokens stand for nothing.
      filled: how many of the new entries took the place of an [unusedN].
    """

    tokens: list[str]
    ids: list[int]
    vocab_size: int
    filled: int


def place_entries(
    tokens: Sequence[str], entries: Sequence[Entry], vocab_size: int, *, fill_unused: bool
) -> Extended:
    """Gives every new entry an id; all others keep theirs.

    Args:
      tokens: the vocabulary.
      entries: the new ones; the first get the places of [unusedN], if any.
      vocab_size: rows of the embedding.
      fill_unused: whether to take those places.
    """
    unused = (number for number, token in enumerate(tokens) if _UNUSED.fullmatch(token))
    places = [*unused][: len(entries)] if fill_unused else []
    appended = len(entries) - len(places)
    extended = [*tokens, *[""] * appended]
    ids = [*places, *range(len(tokens), len(extended))]
    for number, entry in zip(ids, entries, strict=True):
        extended[number] = entry.text
    return Extended(extended, ids, max(vocab_size, len(extended)), len(places))


def extend_weights(
    weights: Mapping[str, np.ndarray],
    tokens: Sequence[str],
    entries: Sequence[Entry],
    extended: Extended,
    config: BertConfig,
    settings: ExtensionSettings,
) -> dict[str, np.ndarray]:
    """Returns a model's weights with rows for the new entries, all others as they were.

    Args:
      weights: float32 arrays by Google's names: the embedding [V, H], the output bias [V] if there
        is a masked LM head, and the rest.
      tokens: the vocabulary without the new entries.
      entries: the new ones.
      extended: where they stand.
      config: of the model without them.
      settings: how rows begin.
    """
    ids = {token: number for number, token in enumerate(tokens)}
    spelt_by = [[ids[piece] for piece in entry.spelt_by] for entry in entries]
    rng = np.random.default_rng(settings.random_seed)
    found = dict(weights)
    for name in (WORD_EMBEDDINGS, OUTPUT_BIAS):
        if name not in weights:
            continue
        old = weights[name]
        new = np.zeros((extended.vocab_size, *old.shape[1:]), old.dtype)
        new[: len(old)] = old
        if settings.new_rows != RANDOM:
            rows = [old[pieces].astype(np.float64).mean(axis=0) for pieces in spelt_by]
            new[extended.ids] = np.array(rows).astype(old.dtype)
        elif name == OUTPUT_BIAS:
            new[extended.ids] = 0
        else:
            shape = (len(entries), *old.shape[1:])
            new[extended.ids] = truncated_normal(rng, shape, config.initializer_range)
        found[name] = new
    return found
