"""Faster arithmetic for spaCy's models, the same for a text whatever it is batched with.

A product of matrices may add up a row in another order when the number of rows differs, so that a
text's parse could hang on its neighbours. Here every product has the same number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from spacy.attrs import IDS, IS_SPACE, LENGTH, LOWER, NORM, ORTH, PREFIX, SHAPE, SPACY, SUFFIX
from spacy.tokens import Doc
from thinc.api import Model, NumpyOps

# A multiple of the row counts that BLAS kernels work in, small enough to stay in a core's cache.
_TILE_ROWS = 128

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
    """NumPy's BLAS in place of BLIS, which has no fast kernels for some processors.

    Products are taken in tiles of `_TILE_ROWS` rows, the last one padded with zeros: a row's result
    depends on that row alone.
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
        x = np.ascontiguousarray(x.T if trans1 else x)
        y = y.T if trans2 else y
        rows, inner = x.shape
        columns = y.shape[1]
        if out is None:
            out = np.empty((rows, columns), x.dtype)
        whole = rows // _TILE_ROWS
        cut = whole * _TILE_ROWS
        if whole:
            np.matmul(
                x[:cut].reshape(whole, _TILE_ROWS, inner),
                y,
                out=out[:cut].reshape(whole, _TILE_ROWS, columns),
            )
        if cut < rows:
            last = np.zeros((_TILE_ROWS, inner), x.dtype)
            last[: rows - cut] = x[cut:]
            out[cut:] = np.matmul(last, y)[: rows - cut]
        return out


def make_steady(model: Any) -> None:
    """Makes a thinc model compute by `SteadyOps`, and embed each distinct token of a batch once.

    The second only where an embedding is known to depend on nothing but the token.
    """
    use_steady_ops(model)
    for node in list(model.walk()):
        embed = node.get_ref("embed") if node.has_ref("embed") else None
        if embed is not None and embed in node.layers and embeds_tokens_singly(embed):
            node.layers[node.layers.index(embed)] = _once_per_distinct_token(embed)


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


def _once_per_distinct_token(embed: Any) -> Any:
    model: Any = Model("once_per_distinct_token", _embed_distinct_tokens, layers=[embed])
    model.ops = embed.ops
    return model


def _embed_distinct_tokens(model: Any, docs: Sequence[Any], is_train: bool) -> tuple[Any, Any]:
    """Embeds documents as `model.layers[0]` does: float32 [tokens, width] for each.

    A batch of clinical text has about a tenth as many distinct tokens as tokens.
    """
    embed = model.layers[0]
    tokens = np.concatenate([doc.to_array(TOKEN_KEY).reshape(-1, 3) for doc in docs])
    tokens = tokens.astype(np.uint64, copy=False)
    keys = tokens[:, 0] * np.uint64(0x9E3779B97F4A7C15) + tokens[:, 1] * np.uint64(2) + tokens[:, 2]
    _, first, distinct = np.unique(keys, return_index=True, return_inverse=True)
    if is_train or not len(tokens) or not np.array_equal(tokens[first][distinct], tokens):
        return embed(docs, is_train)
    vectors = embed_tokens(embed, docs[0].vocab, tokens[first])
    ends = np.cumsum([len(doc) for doc in docs])[:-1]
    return np.split(vectors[distinct], ends), _no_training


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


def _no_training(gradient: Any) -> Any:
    raise NotImplementedError("this model is for prediction only")
