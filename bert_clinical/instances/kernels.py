"""The draws of `random.Random` and the making of training instances, compiled.

The state of `random.Random` goes in and is carried on, so that every draw is the one that CPython
would make at that place.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np

from bert_clinical.tfrecords.schema import (
    INSTANCE_IDS,
    INSTANCE_IS_RANDOM_NEXT,
    INSTANCE_LENGTH,
    INSTANCE_LENGTH_A,
    INSTANCE_MASKED,
)
from data_prep.common.compiled import compiled, compiled_part

_STATE_WORDS = 624
_PERIOD = 397
_MATRIX = 0x9908B0DF
_UPPER, _LOWER = 0x80000000, 0x7FFFFFFF
_TWO_TO_MINUS_53 = 1.0 / 9007199254740992.0

TRUNCATED, RANDOM_NEXT, MASKED = range(3)
CURSOR_DOCUMENT, CURSOR_SENTENCE, CURSOR_TARGET = range(3)


class CorpusArrays(NamedTuple):
    """Tokenized documents.

    Attributes:
      token_ids: uint16 or uint32 [tokens].
      sentence_starts: int64 [sentences + 1], places in `token_ids`.
      document_starts: int64 [documents + 1], places in `sentence_starts`.
      document_order: int64 [documents], the shuffled order.
    """

    token_ids: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray
    document_order: np.ndarray


class InstanceRules(NamedTuple):
    """How instances are cut and masked.

    Attributes:
      max_seq_length: WordPieces in a sequence.
      max_predictions: masked WordPieces in a sequence.
      short_seq_prob: how often a document is cut for a shorter target length.
      whole_words: masks whole words.
      predictions_by_length: int64 [max_seq_length + 1], how many WordPieces are masked.
      continues_word: bool [vocabulary], which ids are `##` pieces.
      random_ids: int64 [distinct tokens], from which a random replacement is drawn.
      cls_id, sep_id, mask_id: of the special tokens.
    """

    max_seq_length: int
    max_predictions: int
    short_seq_prob: float
    whole_words: bool
    predictions_by_length: np.ndarray
    continues_word: np.ndarray
    random_ids: np.ndarray
    cls_id: int
    sep_id: int
    mask_id: int


def generator_state(seed: int) -> np.ndarray:
    """Returns the state of `random.Random(seed)`: uint32 [625], the last one the position."""
    return np.array(random.Random(seed).getstate()[1], np.uint32)


@compiled_part
def _regenerate(generator):  # type: ignore[no-untyped-def]
    for i in range(_STATE_WORDS):
        mixed = (np.int64(generator[i]) & _UPPER) | (
            np.int64(generator[(i + 1) % _STATE_WORDS]) & _LOWER
        )
        word = np.int64(generator[(i + _PERIOD) % _STATE_WORDS]) ^ (mixed >> 1)
        if mixed & 1:
            word ^= _MATRIX
        generator[i] = np.uint32(word)
    generator[_STATE_WORDS] = np.uint32(0)


@compiled_part
def _word(generator):  # type: ignore[no-untyped-def]
    """The next 32 bits of the Mersenne twister."""
    if generator[_STATE_WORDS] >= _STATE_WORDS:
        _regenerate(generator)
    position = np.int64(generator[_STATE_WORDS])
    generator[_STATE_WORDS] = np.uint32(position + 1)
    y = np.int64(generator[position])
    y ^= y >> 11
    y ^= (y << 7) & 0x9D2C5680
    y ^= (y << 15) & 0xEFC60000
    return y ^ (y >> 18)


@compiled_part
def _uniform(generator):  # type: ignore[no-untyped-def]
    """`random()`."""
    high = _word(generator) >> 5
    low = _word(generator) >> 6
    return (high * 67108864.0 + low) * _TWO_TO_MINUS_53


@compiled_part
def _below(generator, n):  # type: ignore[no-untyped-def]
    """`_randbelow(n)` for 0 < n < 2**32."""
    shift = 32
    while n >> (32 - shift):
        shift -= 1
    drawn = _word(generator) >> shift
    while drawn >= n:
        drawn = _word(generator) >> shift
    return drawn


@compiled
def shuffle(generator: np.ndarray, items: np.ndarray) -> None:
    """`shuffle(items)`, for fewer than 2**32 items."""
    _shuffle(generator, items, len(items))


@compiled_part
def _shuffle(generator, items, count):  # type: ignore[no-untyped-def]
    shift = 32
    while count >> (32 - shift):
        shift -= 1
    for i in range(count - 1, 0, -1):
        n = i + 1
        if not n >> (31 - shift):
            shift += 1
        drawn = _word(generator) >> shift
        while drawn >= n:
            drawn = _word(generator) >> shift
        items[i], items[drawn] = items[drawn], items[i]


@compiled
def make_instances(
    corpus: CorpusArrays,
    rules: InstanceRules,
    generator: np.ndarray,
    cursor: np.ndarray,
    instances: np.ndarray,
    counts: np.ndarray,
    length_counts: np.ndarray,
) -> int:
    """Makes instances until the documents end or `instances` is full.

    Args:
      corpus: the documents.
      rules: how they are cut and masked.
      generator: uint32 [625], carried on.
      cursor: int64 [3], where the pass over the documents stands; zeros at its beginning.
      instances: `[capacity, instance_width]`, of the type of the token ids; filled from 0.
      counts: int64 [3], added to: truncated pairs, random next sentences, masked WordPieces.
      length_counts: int64 [max_seq_length + 1], added to: sequences by length.

    Returns:
      How many were made. The documents have ended when cursor[0] is their number.
    """
    starts, document_starts = corpus.sentence_starts, corpus.document_starts
    order = corpus.document_order
    documents = len(order)
    room = rules.max_seq_length - 3
    positions = np.empty(rules.max_seq_length, np.int64)
    words = np.empty(rules.max_seq_length, np.int64)
    word_starts = np.empty(rules.max_seq_length + 1, np.int64)
    labels = np.empty(rules.max_seq_length, np.int64)
    for i in range(rules.max_seq_length):
        labels[i] = -1
    made = 0
    while cursor[CURSOR_DOCUMENT] < documents and made < len(instances):
        document = cursor[CURSOR_DOCUMENT]
        last = document_starts[order[document] + 1]
        if cursor[CURSOR_TARGET] == 0:
            cursor[CURSOR_SENTENCE] = document_starts[order[document]]
            cursor[CURSOR_TARGET] = room
            if _uniform(generator) < rules.short_seq_prob:
                cursor[CURSOR_TARGET] = 2 + _below(generator, room - 1)
        target = cursor[CURSOR_TARGET]
        start = cursor[CURSOR_SENTENCE]
        end = start + 1
        while end < last and starts[end] - starts[start] < target:
            end += 1
        split = start + 1
        if end - start > 1:
            split += _below(generator, end - start - 1)
        a, a_end = starts[start], starts[split]

        is_random_next = end - start == 1 or _uniform(generator) < 0.5
        if is_random_next:
            other = document
            for _ in range(10):
                other = _below(generator, documents)
                if other != document:
                    break
            other_first = document_starts[order[other]]
            other_last = document_starts[order[other] + 1]
            b_sentence = other_first + _below(generator, other_last - other_first)
            b_last = b_sentence + 1
            wanted = target - (a_end - a)
            while b_last < other_last and starts[b_last] - starts[b_sentence] < wanted:
                b_last += 1
            b, b_end = starts[b_sentence], starts[b_last]
            cursor[CURSOR_SENTENCE] = split
            counts[RANDOM_NEXT] += 1
        else:
            b, b_end = starts[split], starts[end]
            cursor[CURSOR_SENTENCE] = end

        if a_end - a + b_end - b > room:
            counts[TRUNCATED] += 1
        while a_end - a + b_end - b > room:
            from_front = _uniform(generator) < 0.5
            if a_end - a > b_end - b:
                if from_front:
                    a += 1
                else:
                    a_end -= 1
            elif from_front:
                b += 1
            else:
                b_end -= 1

        instance = instances[made]
        length_a = a_end - a + 2
        length = length_a + b_end - b + 1
        instance[INSTANCE_LENGTH] = length
        instance[INSTANCE_LENGTH_A] = length_a
        instance[INSTANCE_IS_RANDOM_NEXT] = is_random_next
        ids = instance[INSTANCE_IDS:]
        ids[0] = rules.cls_id
        for i in range(a, a_end):
            ids[1 + i - a] = corpus.token_ids[i]
        ids[length_a - 1] = rules.sep_id
        for i in range(b, b_end):
            ids[length_a + i - b] = corpus.token_ids[i]
        ids[length - 1] = rules.sep_id
        _mask(rules, generator, instance, length_a, length, positions, words, word_starts, labels)
        counts[MASKED] += instance[INSTANCE_MASKED]
        length_counts[length] += 1
        made += 1
        if cursor[CURSOR_SENTENCE] == last:
            cursor[CURSOR_DOCUMENT] += 1
            cursor[CURSOR_TARGET] = 0
    return made


@compiled_part
def _mask(  # type: ignore[no-untyped-def]
    rules, generator, instance, length_a, length, positions, words, word_starts, labels
):
    """Masks an instance in place; word k is `positions[word_starts[k]:word_starts[k + 1]]`.

    `labels` is all -1 before and after; the other arrays are room to work in.
    """
    ids = instance[INSTANCE_IDS:]
    count = pieces = 0
    for position in range(1, length - 1):
        if position == length_a - 1:
            continue
        # A piece at the head of B continues the last word of A, as in the original.
        if not (rules.whole_words and count > 0 and rules.continues_word[ids[position]]):
            words[count] = count
            word_starts[count] = pieces
            count += 1
        positions[pieces] = position
        pieces += 1
    word_starts[count] = pieces
    _shuffle(generator, words, count)

    wanted = rules.predictions_by_length[length]
    masked = 0
    for index in range(count):
        if masked >= wanted:
            break
        first, end = word_starts[words[index]], word_starts[words[index] + 1]
        if masked + end - first > wanted:
            continue
        for piece in range(first, end):
            position = positions[piece]
            labels[position] = ids[position]
            if _uniform(generator) < 0.8:
                ids[position] = rules.mask_id
            elif _uniform(generator) >= 0.5:
                ids[position] = rules.random_ids[_below(generator, len(rules.random_ids))]
        masked += end - first
    instance[INSTANCE_MASKED] = masked

    at = INSTANCE_IDS + rules.max_seq_length
    for position in range(length):
        if labels[position] >= 0:
            instance[at] = position
            instance[at + rules.max_predictions] = labels[position]
            labels[position] = -1
            at += 1
