"""The masked LM decoder of a transformers folder: the word embeddings again, or its own weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert_clinical.weights.transformers_folder import FolderWeights
from bert_clinical.weights.transformers_names import TIED_TO, modern_names
from data_prep.common.errors import UserError

_WEIGHT, _BIAS = TIED_TO
_HEAD = "cls.predictions."


class Decoder(NamedTuple):
    """A decoder of its own: float32 [V, H] and [V]."""

    weight: np.ndarray
    bias: np.ndarray


def read_decoder(
    source: FolderWeights, settings: Mapping[str, Any], folder: Path
) -> Decoder | None:
    """Returns the decoder of a folder, None if it is the word embeddings again, or there is none.

    Args:
      source: the folder's weights.
      settings: its config.json, which says by `tie_word_embeddings` what is right.
      folder: for errors.

    Raises:
      UserError: config and weights say different things.
    """
    files_name = {new: name for name, new in modern_names(source.shapes).items()}
    if not any(name.startswith(_HEAD) for name in files_name):
        return None
    tied = settings.get("tie_word_embeddings", True)
    if not tied and _WEIGHT not in files_name:
        raise UserError(
            f"{folder}: config.json says tie_word_embeddings false, but there is no {_WEIGHT}; "
            "save the model again with it, or correct config.json"
        )
    found: dict[str, np.ndarray] = {}
    differing = None
    for copy, original in TIED_TO.items():
        names = [name for name in (copy, original) if name in files_name]
        by_file = dict(source.read([files_name[name] for name in names]))
        values = [by_file[files_name[name]] for name in names]
        if not values:
            return None
        found[copy] = values[0]
        if len(values) == 2 and values[0].shape != values[1].shape:
            raise UserError(
                f"{folder}: {copy} has shape {list(values[0].shape)}, expected "
                f"{list(values[1].shape)} as {original}"
            )
        if len(values) == 2 and not np.array_equal(values[0], values[1]):
            differing = differing or (copy, original)
    if differing is None:
        return None
    if tied:
        raise UserError(
            f"{folder}: {differing[0]} differs from {differing[1]}, but config.json does not say "
            "tie_word_embeddings false; correct the one that is wrong"
        )
    return Decoder(found[_WEIGHT], found[_BIAS])
