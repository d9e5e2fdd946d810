"""The greedy arc-eager parser of spaCy 3, compiled: the heads of a batch of texts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_prep.compiled import compiled, compiled_part

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
    room = np.empty((6, longest), np.int32)
    unshifted = np.empty(longest, np.bool_)
    unmaxed = np.empty(len(weights.lower_bias), np.float32)
    scores = np.empty(len(weights.upper_bias), np.float32)
    for text in range(len(text_starts) - 1):
        first, last = text_starts[text], text_starts[text + 1]
        _parse_text(
            weights,
            lower,
            rows[first:last],
            sentence_starts[first:last],
            heads[first:last],
            actions[first:last],
            room,
            unshifted,
            unmaxed,
            scores,
        )


@compiled_part
def _parse_text(  # type: ignore[no-untyped-def]
    weights, lower, rows, starts, heads, actions, room, unshifted, unmaxed, scores
):
    length = len(rows)
    stack, put_back, left_child, right_child, right_sibling = (
        room[0],
        room[1],
        room[2],
        room[3],
        room[4],
    )
    for i in range(length):
        heads[i] = actions[i] = left_child[i] = right_child[i] = right_sibling[i] = -1
        unshifted[i] = False
    depth = returned = unread = 0
    while depth > 0 or returned > 0 or unread < length:
        left = returned + length - unread
        b0 = b1 = s0 = s1 = s2 = -1
        if returned > 0:
            b0 = put_back[returned - 1]
            if returned > 1:
                b1 = put_back[returned - 2]
            elif unread < length:
                b1 = unread
        else:
            if unread < length:
                b0 = unread
            if unread + 1 < length:
                b1 = unread + 1
        if depth > 0:
            s0 = stack[depth - 1]
        if depth > 1:
            s1 = stack[depth - 2]
        if depth > 2:
            s2 = stack[depth - 3]

        may_shift = depth == 0 or (left >= 2 and not starts[b0] and not unshifted[b0])
        may_reduce = depth > 0
        may_arc = depth > 0 and left > 0 and not starts[b0]
        may_break = left >= 2 and b1 == b0 + 1 and not starts[b1]
        if may_reduce and not (may_shift or may_arc or may_break):
            action = -1
            move = REDUCE
        else:
            _score(
                weights,
                lower,
                rows,
                (
                    b0,
                    b1,
                    s0,
                    s1,
                    s2,
                    left_child[b0] if b0 >= 0 else -1,
                    left_child[s0] if s0 >= 0 else -1,
                    right_child[s0] if s0 >= 0 else -1,
                ),
                unmaxed,
                scores,
            )
            action = -1
            for i in range(len(scores)):
                m = weights.moves[i]
                if m == SHIFT:
                    valid = may_shift
                elif m == REDUCE:
                    valid = may_reduce
                elif m == BREAK:
                    valid = may_break
                else:
                    valid = may_arc
                if valid and (action == -1 or scores[i] > scores[action]):
                    action = i
            move = weights.moves[action]

        if move == REDUCE:
            depth -= 1
            if heads[s0] < 0 and depth > 0:
                unshifted[s0] = True
                put_back[returned] = s0
                returned += 1
        elif move == LEFT:
            if heads[s0] >= 0:
                # Then its head stands below it, and it is the last child on the right there.
                right_child[heads[s0]] = right_sibling[s0]
            heads[s0] = b0
            actions[s0] = action
            left_child[b0] = s0
            unshifted[b0] = False
            depth -= 1
        elif move == BREAK:
            starts[b1] = True
        else:
            if move == RIGHT:
                heads[b0] = s0
                actions[b0] = action
                right_sibling[b0] = right_child[s0]
                right_child[s0] = b0
            if returned > 0:
                returned -= 1
            else:
                unread += 1
            stack[depth] = b0
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
