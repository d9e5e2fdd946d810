"""From the heads of a parse to sentences, as spaCy finds them, compiled."""

from __future__ import annotations

import numpy as np

from data_prep.common.compiled import compiled, compiled_part

# spaCy gives up after as many passes over a text whose heads leave their sentences.
_PASSES = 12


@compiled
def sentence_bounds(
    heads: np.ndarray,
    text_starts: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
    is_space_or_punct: np.ndarray,
    spans: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the sentences of parsed texts, after merging spans of them into one token each.

    Args:
      heads: int32 [tokens], places in the text, a root's is its own.
      text_starts: int64 [texts + 1], places in `heads`.
      begins, ends: int64 [tokens], characters of the text.
      is_space_or_punct: bool [tokens].
      spans: int64 [spans, 3], text, begin and end in characters, in order and apart from each
        other; one that does not begin and end with tokens is left out.

    Returns:
      int64 [sentences, 2], begin and end in characters, and int64 [texts], sentences of each.

    Source: spaCy 3.8, `set_children_from_heads` of `doc.pyx`, `_retokenize.pyx`, `Span.root`.
    """
    bounds = np.empty((len(heads), 2), np.int64)
    counts = np.zeros(len(text_starts) - 1, np.int64)
    total = span = 0
    for text in range(len(counts)):
        first, last = text_starts[text], text_starts[text + 1]
        length = last - first
        head = heads[first:last].copy()
        begin = begins[first:last].copy()
        end = ends[first:last].copy()
        is_minor = is_space_or_punct[first:last].copy()
        while span < len(spans) and spans[span, 0] == text:
            i = np.searchsorted(begin[:length], spans[span, 1])
            j = np.searchsorted(end[:length], spans[span, 2])
            span += 1
            # Several tokens may begin or end at a place only if some have no characters.
            if i < j < length and begin[i] == spans[span - 1, 1] and end[j] == spans[span - 1, 2]:
                length = _merge(head, begin, end, is_minor, length, i, j + 1)
        starts = _sentence_starts(head[:length])
        for i in range(length):
            if i == 0 or starts[i]:
                bounds[total, 0] = begin[i]
                total += 1
                counts[text] += 1
            bounds[total - 1, 1] = end[i]
    return bounds[:total].copy(), counts


@compiled_part
def _merge(head, begin, end, is_minor, length, first, last):  # type: ignore[no-untyped-def]
    """Makes tokens `first` … `last - 1` one, with the head of their root; returns the length."""
    head[first] = head[_root(head, is_minor, length, first, last)]
    end[first] = end[last - 1]
    gone = last - first - 1
    for i in range(length):
        if head[i] >= last:
            head[i] -= gone
        elif head[i] > first:
            head[i] = first
    for i in range(last, length):
        head[i - gone] = head[i]
        begin[i - gone] = begin[i]
        end[i - gone] = end[i]
        is_minor[i - gone] = is_minor[i]
    return length - gone


@compiled_part
def _root(head, is_minor, length, first, last):  # type: ignore[no-untyped-def]
    """The token of a span that stands nearest to the root of its sentence."""
    for i in range(first, last):
        if head[i] == i:
            return i
    root, shortest = first, length
    for i in range(first, last):
        if first <= head[i] < last:
            continue
        steps = 0
        if is_minor[i] and not _has_children(head, length, i):
            steps = length - 1
        else:
            token = i
            while head[token] != token and steps < length:
                token = head[token]
                steps += 1
        if steps < shortest:
            root, shortest = i, steps
    return root


@compiled_part
def _has_children(head, length, token):  # type: ignore[no-untyped-def]
    children = 0
    for i in range(length):
        children += head[i] == token and i != token
    return children > 0


@compiled_part
def _sentence_starts(head):  # type: ignore[no-untyped-def]
    """A sentence starts at the leftmost token under a root."""
    length = len(head)
    left_edge = np.arange(length)
    starts = np.zeros(length, np.bool_)
    for _ in range(_PASSES):
        for i in range(length):
            left_edge[head[i]] = min(left_edge[head[i]], left_edge[i])
        for i in range(length - 1, -1, -1):
            left_edge[head[i]] = min(left_edge[head[i]], left_edge[i])
        starts[:] = False
        for i in range(length):
            if head[i] == i:
                starts[left_edge[i]] = True
        if _heads_stay_within(head, starts):
            break
    return starts


@compiled_part
def _heads_stay_within(head, starts):  # type: ignore[no-untyped-def]
    start = 0
    for end in range(len(head)):
        if (end > 0 and starts[end]) or end == len(head) - 1:
            for i in range(start, end):
                if head[i] < start or head[i] > end:
                    return False
            start = end
    return True
