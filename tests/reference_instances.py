"""The oracle of `create_pretraining_data`: strings, lists and `random.Random`, as plain as can be.

Written from the facts of Google's program and equal to what it wrote (`golden/pretraining_data`).
Slow on purpose: the engine under test shares no line with it, but for the tokenizer.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_clinical.tokenization import FullTokenizer

Document = list[list[str]]


@dataclass(frozen=True)
class Flags:
    """Google's flags that shape the examples, with its defaults."""

    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    random_seed: int = 12345
    dupe_factor: int = 10
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    do_whole_word_mask: bool = False


def examples(
    input_files: Iterable[str | Path], tokenizer: FullTokenizer, flags: Flags
) -> list[dict[str, list[Any]]]:
    """Returns all examples in the order in which they are written, each a dict of lists."""
    rng = random.Random(flags.random_seed)
    documents = read_documents(input_files, tokenizer)
    rng.shuffle(documents)
    words = list(tokenizer.vocab)
    made = []
    for _ in range(flags.dupe_factor):
        for index in range(len(documents)):
            for pair in sentence_pairs(documents, index, flags, rng):
                made.append(masked(pair, words, flags, rng))
    rng.shuffle(made)
    return [as_features(instance, tokenizer, flags) for instance in made]


def read_documents(input_files: Iterable[str | Path], tokenizer: FullTokenizer) -> list[Document]:
    documents: list[Document] = [[]]
    for path in input_files:
        for raw in io.BytesIO(Path(path).read_bytes()):
            read = raw.decode().replace("\r", "")
            line = read.strip()
            if read == "":
                break
            if line == "":
                documents.append([])
            elif tokens := tokenizer.tokenize(line):
                documents[-1].append(tokens)
    return [document for document in documents if document]


@dataclass
class Pair:
    a: list[str]
    b: list[str]
    is_random_next: bool


def sentence_pairs(
    documents: Sequence[Document], index: int, flags: Flags, rng: random.Random
) -> Iterable[Pair]:
    room = flags.max_seq_length - 3
    target = rng.randint(2, room) if rng.random() < flags.short_seq_prob else room
    document = documents[index]
    start = 0
    while start < len(document):
        end = start + 1
        while end < len(document) and sum(map(len, document[start:end])) < target:
            end += 1
        count = end - start
        split = start + (rng.randint(1, count - 1) if count > 1 else 1)
        a = joined(document[start:split])
        is_random_next = count == 1 or rng.random() < 0.5
        if is_random_next:
            b = random_continuation(documents, index, target - len(a), rng)
            start = split
        else:
            b = joined(document[split:end])
            start = end
        while len(a) + len(b) > room:
            longer = a if len(a) > len(b) else b
            longer.pop(0 if rng.random() < 0.5 else -1)
        yield Pair(a, b, is_random_next)


def random_continuation(
    documents: Sequence[Document], index: int, length: int, rng: random.Random
) -> list[str]:
    for _ in range(10):
        other = rng.randint(0, len(documents) - 1)
        if other != index:
            break
    document = documents[other]
    b: list[str] = []
    for sentence in document[rng.randint(0, len(document) - 1) :]:
        b += sentence
        if len(b) >= length:
            break
    return b


def joined(sentences: Iterable[list[str]]) -> list[str]:
    return [token for sentence in sentences for token in sentence]


@dataclass
class Instance:
    tokens: list[str]
    segment_ids: list[int]
    labels: dict[int, str]
    is_random_next: bool


def masked(pair: Pair, words: list[str], flags: Flags, rng: random.Random) -> Instance:
    tokens = ["[CLS]", *pair.a, "[SEP]", *pair.b, "[SEP]"]
    segment_ids = [0] * (len(pair.a) + 2) + [1] * (len(pair.b) + 1)
    candidates: list[list[int]] = []
    for position, token in enumerate(tokens):
        if token in ("[CLS]", "[SEP]"):
            continue
        if flags.do_whole_word_mask and candidates and token.startswith("##"):
            candidates[-1].append(position)
        else:
            candidates.append([position])
    rng.shuffle(candidates)
    wanted = max(1, round(len(tokens) * flags.masked_lm_prob))
    wanted = min(flags.max_predictions_per_seq, wanted)
    shown = list(tokens)
    labels: dict[int, str] = {}
    for candidate in candidates:
        if len(labels) == wanted:
            break
        if len(labels) + len(candidate) > wanted:
            continue
        for position in candidate:
            labels[position] = tokens[position]
            if rng.random() < 0.8:
                shown[position] = "[MASK]"
            elif rng.random() >= 0.5:
                shown[position] = words[rng.randint(0, len(words) - 1)]
    return Instance(shown, segment_ids, dict(sorted(labels.items())), pair.is_random_next)


def as_features(instance: Instance, tokenizer: FullTokenizer, flags: Flags) -> dict[str, list[Any]]:
    def padded(values: Iterable[Any], length: int, padding: Any = 0) -> list[Any]:
        values = list(values)
        return values + [padding] * (length - len(values))

    length, predictions = flags.max_seq_length, flags.max_predictions_per_seq
    label_ids = tokenizer.convert_tokens_to_ids(list(instance.labels.values()))
    return {
        "input_ids": padded(tokenizer.convert_tokens_to_ids(instance.tokens), length),
        "input_mask": padded([1] * len(instance.tokens), length),
        "segment_ids": padded(instance.segment_ids, length),
        "masked_lm_positions": padded(instance.labels, predictions),
        "masked_lm_ids": padded(label_ids, predictions),
        "masked_lm_weights": padded([1.0] * len(label_ids), predictions, 0.0),
        "next_sentence_labels": [int(instance.is_random_next)],
    }
