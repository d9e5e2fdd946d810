"""A spaCy parser taken out of its pipeline and computed by compiled code, where it is a known one.

spaCy's parser gives and takes the interpreter's lock at each step, and computes each token's vector
anew wherever the same words stand. Both cost more than the parse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from spacy.attrs import DEP, HEAD
from spacy.pipeline import DependencyParser, Tok2Vec
from spacy.pipeline._parser_internals.arc_eager import ArcEager
from spacy.pipeline._parser_internals.nonproj import deprojectivize
from spacy.pipeline.tok2vec import Tok2VecListener

from data_prep.sentences.compiled import arc_eager, window_encoder
from data_prep.sentences.compiled_product import product
from data_prep.sentences.steady_math import (
    TOKEN_KEY,
    embed_tokens,
    embeds_tokens_singly,
    use_steady_ops,
)

_ENCODER_LAYERS = ["expand_window", "maxout", "layernorm", "dropout"]
_MOVES = "SDLRB"
# spaCy treats this label apart.
_SUBTOKEN = "subtok"

# Where a model's own code and this must agree before this takes over.
_CHECKS = (
    "HISTORY OF PRESENT ILLNESS:\n The patient is a 62 year old man who came in with chest pain. He"
    " was given aspirin, which helped him; no further pain was reported by the nurse.",
    "Labs: Na 138 - K 4.2 , WBC 11.3 ( high ). Blood cultures x 2 drawn.\n 1. Aspirin daily.",
    "What did she take, and how often ? Nobody who was asked knew it - she lives alone. Follow up.",
)


class CompiledParser:
    """Finds heads as `nlp`'s parser does.

    Args:
      nlp: a pipeline of one parser, and of the vectors it reads where these have a component of
        their own. It stays usable, with other arithmetic.

    Raises:
      UnknownParserError: the pipeline has a part that this code does not know.
    """

    def __init__(self, nlp: Any) -> None:
        parser, tok2vec, linear, lower, upper = _parts(nlp)
        self._vocab = nlp.vocab
        self._embed = tok2vec.get_ref("embed")
        use_steady_ops(self._embed)
        self._layers = [_window_layer(layer) for layer in _residuals(tok2vec.get_ref("encode"))]
        self._linear = np.ascontiguousarray(linear.get_param("W").T)
        self._linear_bias = linear.get_param("b")

        by_piece = lower.get_param("W").transpose(3, 0, 2, 1)
        self._lower = np.ascontiguousarray(by_piece.reshape(len(by_piece), -1))
        names = parser.move_names
        self._weights = arc_eager.ParserWeights(
            lower_pad=_flat(lower.get_param("pad")[0].transpose(0, 2, 1), arc_eager.FEATURES),
            lower_bias=_flat(lower.get_param("b").T, 1)[0],
            upper=np.ascontiguousarray(upper.get_param("W").T),
            upper_bias=np.ascontiguousarray(upper.get_param("b")),
            moves=np.array([_MOVES.index(name[0]) for name in names], np.int8),
        )
        strings = nlp.vocab.strings
        # The last one is for a root's action, -1.
        labels = [*(name[2:] for name in names), "ROOT"]
        self._labels = np.array([strings.add(label) for label in labels], np.uint64)
        self._is_decorated = np.array(["||" in label for label in labels])
        _expect(all(self._agrees(nlp, text) for text in _CHECKS))

    def heads(
        self,
        docs: Sequence[Any],
        tokens: np.ndarray,
        text_starts: np.ndarray,
        sentence_starts: np.ndarray,
    ) -> np.ndarray:
        """Parses a batch; a text's heads do not depend on the others.

        Args:
          docs: tokenized texts, as yet without annotations.
          tokens: uint64 [tokens, 3], the `TOKEN_KEY` of each token of each text.
          text_starts: int64 [texts + 1], places in `tokens`.
          sentence_starts: bool [tokens], where a sentence has to start.

        Returns:
          int32 [tokens], places in the text, a root's is its own.
        """
        vectors, rows = self.vectors(tokens, text_starts)
        hidden = product(vectors, self._linear) + self._linear_bias
        lower = product(hidden, self._lower)
        lower = lower.reshape(len(lower), arc_eager.FEATURES, -1)
        heads = np.empty(len(tokens), np.int32)
        actions = np.empty(len(tokens), np.int32)
        arc_eager.parse(
            self._weights, lower, rows, text_starts, sentence_starts.copy(), heads, actions
        )
        decorated = np.flatnonzero(self._is_decorated[actions])
        for text in np.unique(np.searchsorted(text_starts, decorated, "right") - 1).tolist():
            part = slice(text_starts[text], text_starts[text + 1])
            heads[part] = self._reattached(docs[text], heads[part], actions[part])
        return heads

    def vectors(self, tokens: np.ndarray, text_starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns float32 [distinct, width] vectors and int64 [tokens], which one is a token's."""
        numbers, firsts = window_encoder.distinct_triples(*tokens.T)
        vectors = embed_tokens(self._embed, self._vocab, tokens[firsts])
        vectors = np.concatenate([np.zeros_like(vectors[:1]), vectors])
        gap = len(self._layers)
        text = np.repeat(np.arange(len(text_starts) - 1), np.diff(text_starts))
        places = np.arange(len(tokens)) + gap * text
        padded = np.zeros(len(tokens) + gap * len(text_starts), np.int64)
        padded[places + gap] = numbers + 1
        vectors, numbers = window_encoder.encode(self._layers, vectors, padded)
        return vectors, numbers[places]

    def _agrees(self, nlp: Any, text: str) -> bool:
        """Whether this code and the pipeline's own find the same heads, with starts set or not."""
        length = len(nlp.make_doc(text))
        for start in (0, length // 2):
            doc = nlp.make_doc(text)
            tokens = doc.to_array(TOKEN_KEY)
            sentence_starts = np.arange(length) == start
            ours = self.heads([doc], tokens, np.array([0, length]), sentence_starts)
            doc = nlp.make_doc(text)
            doc[start].is_sent_start = True
            for _, component in nlp.pipeline:
                doc = component(doc)
            theirs = doc.to_array(HEAD).astype(np.int64) + np.arange(length)
            if not np.array_equal(ours, theirs):
                return False
        return True

    def _reattached(self, doc: Any, heads: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Resolves labels that name the label of another head. They are rare."""
        here = np.arange(len(heads))
        relative = (heads - here).astype(np.uint64)
        doc.from_array([HEAD, DEP], np.stack([relative, self._labels[actions]], axis=1))
        deprojectivize(doc)
        return doc.to_array(HEAD).astype(np.int64) + here


class UnknownParserError(Exception):
    """A pipeline is not one that `CompiledParser` can stand for."""


def _parts(nlp: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Returns the parser, its vectors' model, and its linear, lower and upper layers."""
    components = dict(nlp.pipeline)
    parser = components.pop("parser")
    _expect(type(parser) is DependencyParser and type(parser.moves) is ArcEager)
    _expect(parser.cfg["beam_width"] == 1 and parser.postprocesses == (deprojectivize,))
    _expect(all(type(component) is Tok2Vec for component in components.values()))
    model = parser.model
    _expect(model.name == "parser_model" and model.attrs["has_upper"])
    _expect(not model.attrs["unseen_classes"])
    to_array, lower, upper = model.layers
    _expect(lower.name == "precomputable_affine" and upper.name == "linear")
    _expect(lower.get_dim("nF") == arc_eager.FEATURES)
    names = parser.move_names
    _expect(len(names) == upper.get_dim("nO") == parser.moves.n_moves)
    _expect({"S", "D"} <= set(names) and not any(_SUBTOKEN in name for name in names))

    tok2vec, list2array, linear = to_array.layers
    _expect((list2array.name, linear.name) == ("list2array", "linear"))
    if type(tok2vec) is Tok2VecListener:
        (component,) = components.values()
        _expect(tok2vec.upstream_name in ("*", component.name))
        tok2vec = component.model
    embed, encode = tok2vec.get_ref("embed"), tok2vec.get_ref("encode")
    _expect(tok2vec.layers == [embed, encode] and embeds_tokens_singly(embed))
    residuals = _residuals(encode)
    _expect(encode.name == f"with_array({encode.layers[0].name})")
    _expect(encode.attrs["pad"] >= len(residuals))
    for residual in residuals:
        leaves = _leaves(residual)
        _expect([leaf.name for leaf in leaves] == _ENCODER_LAYERS)
        _expect(residual.name == f"residual({'>>'.join(_ENCODER_LAYERS)})")
        _expect(leaves[0].attrs["window_size"] == 1)
    return parser, tok2vec, linear, lower, upper


def _expect(condition: bool) -> None:
    if not condition:
        raise UnknownParserError


def _residuals(encode: Any) -> list[Any]:
    (layers,) = encode.layers
    return list(layers.layers) if ">>residual" in layers.name else [layers]


def _leaves(model: Any) -> list[Any]:
    return [node for node in model.walk(order="dfs_pre") if not node.layers]


def _window_layer(residual: Any) -> window_encoder.WindowLayer:
    _, maxout, norm, _ = _leaves(residual)
    weights = maxout.get_param("W")
    width, pieces, _ = weights.shape
    by_place = weights.reshape(width, pieces, 3, width).transpose(3, 2, 1, 0)
    return window_encoder.WindowLayer(
        weights=_flat(by_place, width),
        bias=_flat(maxout.get_param("b").T, 1)[0],
        scale=np.ascontiguousarray(norm.get_param("G")),
        shift=np.ascontiguousarray(norm.get_param("b")),
    )


def _flat(weights: np.ndarray, rows: int) -> np.ndarray:
    return np.ascontiguousarray(weights.reshape(rows, -1))
