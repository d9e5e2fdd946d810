"""spaCy's models by arithmetic that is the same everywhere, and the vectors of single tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from spacy.attrs import IDS, IS_SPACE, LENGTH, LOWER, NORM, ORTH, PREFIX, SHAPE, SPACY, SUFFIX
from spacy.tokens import Doc
from thinc.api import NumpyOps

from data_prep.sentences.compiled_product import product

# What tells a token from another, wherever it stands.
TOKEN_KEY = (ORTH, NORM, SPACY)

_TOKEN_ATTRIBUTES = frozenset({ORTH, NORM, LOWER, PREFIX, SUFFIX, SHAPE, SPACY, IS_SPACE, LENGTH})
_TOKEN_LAYERS = frozenset(
    {
        "extract_features", "list2ragged", "ragged2list", "ints-getitem", "hashembed",
        "static_vectors", "maxout", "layernorm", "dropout",
    }
)  # fmt: skip


class SteadyOps(NumpyOps):
    """thinc's operations with `product` for products of matrices.

    Differs: thinc's own library, BLIS, has no fast kernels for some processors, and no fixed order
      of addition.
    """

    name = "steady"

    def gemm(
        self,
        x: Any,
        y: Any,
        out: Any = None,
        trans1: bool = False,
        trans2: bool = False,
    ) -> Any:
        """Returns x · y, float32 [rows, columns], either transposed first if so told."""
        answer = product(x.T if trans1 else x, y.T if trans2 else y)
        if out is None:
            return answer
        out[:] = answer
        return out


def use_steady_ops(model: Any) -> None:
    """Makes a thinc model compute by `SteadyOps`."""
    ops = SteadyOps()
    for node in model.walk():
        node.ops = ops


def embeds_tokens_singly(embed: Any) -> bool:
    """Whether an embedding is known to depend on nothing but the token: `TOKEN_KEY`."""
    leaves = [node for node in embed.walk() if not node.layers]
    return all(
        leaf.name in _TOKEN_LAYERS
        and all(IDS.get(key, key) in _TOKEN_ATTRIBUTES for key in leaf.attrs.get("columns", ()))
        for leaf in leaves
    )


def embed_tokens(embed: Any, vocab: Any, tokens: np.ndarray) -> np.ndarray:
    """Embeds single tokens: float32 [tokens, width].

    Args:
      embed: an embedding that `embeds_tokens_singly`.
      vocab: of the texts in which they stand.
      tokens: uint64 [tokens, 3], their `TOKEN_KEY`.
    """
    strings = vocab.strings
    stand_in = Doc(
        vocab,
        words=[strings[orth] for orth in tokens[:, 0].tolist()],
        spaces=(tokens[:, 2] == 1).tolist(),
    ).from_array([NORM], tokens[:, 1:2])
    (vectors,) = embed.predict([stand_in])
    return np.asarray(vectors)
