"""The greedy arc-eager parser of spaCy 3, compiled: the heads of a batch of texts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_prep.common.compiled import compiled, compiled_part

SHIFT, REDUCE, LEFT, RIGHT, BREAK = range(5)

# Tokens that a state is judged by: the first two of the buffer, the upper three of the stack, the
# leftmost children of the first and of the top, the rightmost child of the top.
FEATURES = 8


class ParserWeights(NamedTuple):
    """The layers of a state's scores.

    Attributes:
      lower_pad: float32 [features, pieces * hidden], for a token that is not there.
      lower_bias: float32 [pieces * hidden].
      upper: float32 [hidden, actions].
      upper_bias: float32 [actions].
      moves: int8 [actions], `SHIFT` … `BREAK`; the lowest action of equal score is taken.
    """

    lower_pad: np.ndarray
    lower_bias: np.ndarray
    upper: np.ndarray
    upper_bias: np.ndarray
    moves: np.ndarray


class State(NamedTuple):
    """Room for the parse of one text.

    Attributes:
      stack: int32 [tokens].
      put_back: int32 [tokens], taken off the stack to be read again before the rest, last first.
      left_child, right_child: int32 [tokens], the child that came last, -1 for none.
      right_sibling: int32 [tokens], the right child that came before, of the same head.
      unshifted: bool [tokens], may not be put on the stack again without a head.
      tokens: int32 [features], -1 for none.
      valid: bool [moves].
      unmaxed: float32 [pieces * hidden].
      scores: float32 [actions].
    """

    stack: np.ndarray
    put_back: np.ndarray
    left_child: np.ndarray
    right_child: np.ndarray
    right_sibling: np.ndarray
    unshifted: np.ndarray
    tokens: np.ndarray
    valid: np.ndarray
    unmaxed: np.ndarray
    scores: np.ndarray


@compiled
def parse(
    weights: ParserWeights,
    lower: np.ndarray,
    rows: np.ndarray,
    text_starts: np.ndarray,
    sentence_starts: np.ndarray,
    heads: np.ndarray,
    actions: np.ndarray,
) -> None:
    """Parses texts, each on its own.

    Args:
      weights: of the parser.
      lower: float32 [distinct, features, pieces * hidden], the lower layer's answers.
      rows: int64 [tokens], where each token's answer stands in `lower`.
      text_starts: int64 [texts + 1], places in `rows`.
      sentence_starts: bool [tokens], where a sentence has to start; others are added.
      heads: int32 [tokens], filled: places in the text, a root's is its own.
      actions: int32 [tokens], filled: the action that gave a token its head, -1 for a root.

    Source: spaCy 3.8, `_state.pxd`, `arc_eager.pyx`, `transition_parser.pyx`, `parser_model.pyx`.
    """
    longest = 0
    for text in range(len(text_starts) - 1):
        longest = max(longest, text_starts[text + 1] - text_starts[text])
    state = State(
        stack=np.empty(longest, np.int32),
        put_back=np.empty(longest, np.int32),
        left_child=np.empty(longest, np.int32),
        right_child=np.empty(longest, np.int32),
        right_sibling=np.empty(longest, np.int32),
        unshifted=np.empty(longest, np.bool_),
        tokens=np.empty(FEATURES, np.int32),
        valid=np.empty(BREAK + 1, np.bool_),
        unmaxed=np.empty(len(weights.lower_bias), np.float32),
        scores=np.empty(len(weights.upper_bias), np.float32),
    )
    for text in range(len(text_starts) - 1):
        here = slice(text_starts[text], text_starts[text + 1])
        _parse_text(
            weights, lower, rows[here], sentence_starts[here], heads[here], actions[here], state
        )


@compiled_part
def _parse_text(weights, lower, rows, starts, heads, actions, state):  # type: ignore[no-untyped-def]
    stack, put_back, tokens, valid = state.stack, state.put_back, state.tokens, state.valid
    length = len(rows)
    heads[:] = -1
    actions[:] = -1
    state.left_child[:length] = -1
    state.right_child[:length] = -1
    state.unshifted[:length] = False
    depth = returned = unread = 0
    while depth > 0 or returned > 0 or unread < length:
        left = returned + length - unread
        for i in range(2):
            if i < returned:
                tokens[i] = put_back[returned - 1 - i]
            else:
                tokens[i] = unread + i - returned if i < left else -1
        for i in range(3):
            tokens[2 + i] = stack[depth - 1 - i] if i < depth else -1
        first, second, top = tokens[0], tokens[1], tokens[2]
        tokens[5] = state.left_child[first] if left > 0 else -1
        tokens[6] = state.left_child[top] if depth > 0 else -1
        tokens[7] = state.right_child[top] if depth > 0 else -1

        may_go_on = left > 0 and not starts[first]
        valid[SHIFT] = depth == 0 or (may_go_on and left > 1 and not state.unshifted[first])
        valid[REDUCE] = depth > 0
        valid[LEFT] = valid[RIGHT] = depth > 0 and may_go_on
        valid[BREAK] = left > 1 and second == first + 1 and not starts[second]
        action, move = -1, REDUCE
        if valid[SHIFT] or valid[LEFT] or valid[BREAK]:
            _score(weights, lower, rows, tokens, state.unmaxed, state.scores)
            for i in range(len(state.scores)):
                if valid[weights.moves[i]] and (
                    action < 0 or state.scores[i] > state.scores[action]
                ):
                    action = i
            move = weights.moves[action]

        if move == BREAK:
            starts[second] = True
        elif move == REDUCE:
            depth -= 1
            if heads[top] < 0 and depth > 0:
                state.unshifted[top] = True
                put_back[returned] = top
                returned += 1
        elif move == LEFT:
            if heads[top] >= 0:
                # That head stands next on the stack, and has this one as its last child.
                state.right_child[heads[top]] = state.right_sibling[top]
            heads[top], actions[top] = first, action
            state.left_child[first] = top
            state.unshifted[first] = False
            depth -= 1
        else:
            if move == RIGHT:
                heads[first], actions[first] = top, action
                state.right_sibling[first] = state.right_child[top]
                state.right_child[top] = first
            if returned > 0:
                returned -= 1
            else:
                unread += 1
            stack[depth] = first
            depth += 1
    for i in range(length):
        if heads[i] < 0:
            heads[i] = i


@compiled_part
def _score(weights, lower, rows, tokens, unmaxed, scores):  # type: ignore[no-untyped-def]
    width = len(unmaxed)
    hidden = len(weights.upper)
    for j in range(width):
        unmaxed[j] = 0.0
    for feature in range(FEATURES):
        token = tokens[feature]
        if token >= 0:
            vector = lower[rows[token], feature]
        else:
            vector = weights.lower_pad[feature]
        for j in range(width):
            unmaxed[j] += vector[j]
    for j in range(width):
        unmaxed[j] += weights.lower_bias[j]
    for piece in range(hidden, width, hidden):
        for j in range(hidden):
            unmaxed[j] = max(unmaxed[j], unmaxed[piece + j])
    for j in range(len(scores)):
        scores[j] = 0.0
    for i in range(hidden):
        value = unmaxed[i]
        row = weights.upper[i]
        for j in range(len(scores)):
            scores[j] += value * row[j]
    for j in range(len(scores)):
        scores[j] += weights.upper_bias[j]
