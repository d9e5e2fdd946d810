"""Words with BIO labels: CoNLL files, WordPieces in windows, predictions back to words."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bert_clinical.tasks.data import (
    NO_LABEL,
    Encoded,
    find_data_file,
    numbered_lines,
    require_names,
)
from bert_clinical.tasks.schemes import BIO, LABEL, to_bio
from bert_clinical.tasks.scores import OUTSIDE
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

TASKS = ("conll", "ncbi", "i2b2_2006", "i2b2_2010", "i2b2_2012", "i2b2_2014")

PIECE_LABELS = ("[PAD]", "X", "[CLS]", "[SEP]")
"""Classes that the original adds: of padding, of a word's later WordPieces, of special tokens."""

_STEMS = {"train": ("train",), "dev": ("dev", "devel", "valid"), "test": ("test",)}
_ENDINGS = (".tsv", ".conll", ".txt", ".bio")
_DOCUMENT_START = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """Words between two blank lines.

    Attributes:
      words: as they stand in the file.
      labels: of the words; None for a file of words alone.
      lines: number of each word's line, from 1.
    """

    words: tuple[str, ...] = field(repr=False)
    labels: tuple[str, ...] | None
    lines: tuple[int, ...]


@dataclass(frozen=True)
class SentenceWindow:
    """A part of a sentence that goes through the model at once.

    Attributes:
      encoded: its WordPieces; their labels are learned where there are any.
      sentence: number of the sentence.
      places: (number of the word in its sentence, place of its first WordPiece).
    """

    encoded: Encoded
    sentence: int
    places: tuple[tuple[int, int], ...]


def data_file(data_dir: Path, part: str) -> Path:
    """Returns the file of a part, "train", "dev" or "test"."""
    names = [stem + ending for stem in _STEMS[part] for ending in _ENDINGS]
    return find_data_file(data_dir, names, part)


def read_sentences(path: Path, *, labelled: bool) -> list[Sentence]:
    """Reads a word a line, its label in the last column, a blank line between sentences.

    Columns are separated by tabs or spaces. A word may hold spaces: those before a tab, and where
    there is none the columns that a line has more than others. Lines of `-DOCSTART-` part sentences
    as blank lines do. Labels in BIOES, BILOU or IOB1 become BIO.

    Args:
      path: the file.
      labelled: whether there must be labels; else a file of which most lines have none holds words
        alone.

    Raises:
      UserError: a line has no label or one of no known kind, or there is no sentence.

    Source: clinicalBERT run_ner.py.
    Differs: the original loses the last sentence of a file that does not end in a blank line, and
      what follows the first space of a word.
    """
    rows: list[tuple[int, str]] = []
    starts = 0
    for number, line in numbered_lines(path):
        is_start = line.split(None, 1)[:1] == [_DOCUMENT_START]
        starts += is_start
        rows.append((number, "" if is_start or not line.strip() else line.strip(" \t")))
    filled = [line for _, line in rows if line]
    if not filled:
        raise UserError(f"{path}: holds no sentence; expected a word and its label a line")
    has_labels = labelled or 2 * sum(map(_has_label, filled)) > len(filled)
    width = min((len(_columns(line)) for line in filled if "\t" not in line), default=1)
    if not has_labels:
        _require_words(filled, path)
        width = 1
    sentences, with_spaces = [], 0
    words: list[tuple[int, str, str]] = []
    for number, line in [*rows, (0, "")]:
        if line:
            _require_kind(line, has_labels, f"{path}, line {number}")
            columns = _columns(line)
            word = columns[0] if "\t" in line else " ".join(columns[: len(columns) - width + 1])
            with_spaces += len(word.split()) > 1
            words.append((number, word, columns[-1]))
        elif words:
            lines, texts, labels = zip(*words, strict=True)
            sentences.append(Sentence(texts, labels if has_labels else None, lines))
            words = []
    if starts:
        _log.info("%s: %d lines of %s are left out.", path, starts, _DOCUMENT_START)
    if with_spaces:
        _log.info("%s: %d words hold white space; each is read whole.", path, with_spaces)
    return _in_bio(sentences, path) if has_labels else sentences


def _in_bio(sentences: Sequence[Sentence], path: Path) -> list[Sentence]:
    labels, scheme = to_bio([sentence.labels or () for sentence in sentences])
    if scheme != BIO:
        _log.info("%s: its labels are %s; they are read as BIO.", path, scheme)
    return [replace(sentence, labels=bio) for sentence, bio in zip(sentences, labels, strict=True)]


def _columns(line: str) -> list[str]:
    """Returns word and label, and what is between; a tab ends a word that holds spaces."""
    word, tab, others = line.partition("\t")
    # Not at other white space, which a word can hold.
    return [word.strip(" "), *re.split("[ \t]+", others)] if tab else re.split(" +", line)


def _has_label(line: str) -> bool:
    columns = _columns(line)
    return len(columns) > 1 and bool(columns[0]) and bool(LABEL.fullmatch(columns[-1]))


def _require_words(lines: Sequence[str], path: Path) -> None:
    """Raises `UserError` if what seems to be words alone are columns without known labels."""
    in_columns = sum(" " in line for line in lines if "\t" not in line)
    if 2 * in_columns > len(lines):
        raise UserError(
            f"{path}: {in_columns:,} of {len(lines):,} lines hold several columns, of which the "
            "last is no BIO label; expected words alone, or words and O, B-type or I-type"
        )


def _require_kind(line: str, has_labels: bool, where: str) -> None:
    """Raises `UserError` for a line without a label, or with one among words alone."""
    if has_labels and not _has_label(line):
        raise UserError(
            f"{where}: its last column is no BIO label, or no word stands before it; expected a "
            "word and O, B-type or I-type, separated by a tab or spaces (BIOES, BILOU and IOB1 are "
            "read too)"
        )
    if not has_labels and "\t" in line:
        raise UserError(
            f"{where}: found {len(_columns(line))} columns, where most lines hold a word alone; "
            "expected labels on every line or on none"
        )


def labels_of(sentences: Sequence[Sentence], path: Path) -> list[str]:
    """Returns the labels in the order of their numbers: `O`, then B and I of each type.

    Raises:
      UserError: there is no entity, or the types are no names of kinds.
    """
    types = Counter(
        label[1:] for sentence in sentences for label in sentence.labels or () if label != OUTSIDE
    )
    if not types:
        raise UserError(f"{path}: all words are labelled O; expected entities to learn")
    require_names(types, types.total(), f"{path}: the column of labels", "types of entities")
    return [OUTSIDE, *(mark + kind for kind in sorted(types) for mark in "BI")]


def published_labels(labels: Sequence[str]) -> list[str]:
    """Returns the original's classes for these labels, in the order of its numbers."""
    padding, *others = PIECE_LABELS
    return [padding, *labels, *others]


def encode_windows(
    sentences: Sequence[Sentence],
    encoder: TextEncoder,
    label_ids: Mapping[str, int],
    max_seq_length: int,
) -> list[SentenceWindow]:
    """Returns the sentences as windows; only a word's first WordPiece has a label.

    A sentence too long for one window goes on in another at the next word. A word that is itself
    too long loses its end. A word of which cleaning leaves nothing is [UNK].

    Args:
      sentences: what to encode.
      encoder: gives the WordPieces.
      label_ids: number of each label; a label that is not there is not learned.
      max_seq_length: of a window, in WordPieces.

    Differs: the original cuts long sentences off and predicts `O` for the words that it lost; it
      crashes on a word without WordPieces.
    """
    room = max_seq_length - 2
    windows: list[SentenceWindow] = []
    split = cut = 0
    for number, sentence in enumerate(sentences):
        whole = [encoder.encode(word) or [encoder.unk_id] for word in sentence.words]
        pieces = [ids[:room] for ids in whole]
        cut += sum(len(ids) > room for ids in whole)
        start = 0
        while start < len(pieces):
            end, size = start, 0
            while end < len(pieces) and size + len(pieces[end]) <= room:
                size += len(pieces[end])
                end += 1
            windows.append(_window(sentence, number, pieces, start, end, encoder, label_ids))
            start = end
        split += len(windows) > 0 and windows[-1].places[0][0] > 0
    if split:
        _log.info(
            "%d of %d sentences are longer than %d WordPieces and are read in several windows "
            "(--max_seq_length).", split, len(sentences), max_seq_length,
        )  # fmt: skip
    if cut:
        _log.info(
            "%d words alone are longer than %d WordPieces; their ends are cut off.", cut,
            max_seq_length,
        )  # fmt: skip
    return windows


def _window(
    sentence: Sentence,
    number: int,
    pieces: Sequence[Sequence[int]],
    start: int,
    end: int,
    encoder: TextEncoder,
    label_ids: Mapping[str, int],
) -> SentenceWindow:
    input_ids, labels, places = [encoder.cls_id], [NO_LABEL], []
    for word in range(start, end):
        places.append((word, len(input_ids)))
        label = sentence.labels[word] if sentence.labels else None
        labels += [label_ids.get(label, NO_LABEL) if label else NO_LABEL]
        labels += [NO_LABEL] * (len(pieces[word]) - 1)
        input_ids += pieces[word]
    input_ids.append(encoder.sep_id)
    labels.append(NO_LABEL)
    return SentenceWindow(Encoded(input_ids, [0] * len(input_ids), labels), number, tuple(places))


def encode_as_published(
    sentences: Sequence[Sentence],
    encoder: TextEncoder,
    label_ids: Mapping[str, int],
    max_seq_length: int,
) -> list[SentenceWindow]:
    """Returns each sentence as the original encodes it: cut off, every WordPiece with a class.

    A word of which a WordPiece is cut off has no place, so that `O` is predicted for it.

    Source: clinicalBERT run_ner.py, and ner_eval/ner_detokenize.py for what becomes of words.
    """
    room = max_seq_length - 2
    windows = []
    cut = 0
    for number, sentence in enumerate(sentences):
        input_ids, names, places = [encoder.cls_id], ["[CLS]"], []
        for word, text in enumerate(sentence.words):
            pieces = encoder.encode(text)
            if pieces and len(input_ids) + len(pieces) <= room + 1:
                places.append((word, len(input_ids)))
            label = sentence.labels[word] if sentence.labels else OUTSIDE
            names += [label, *["X"] * (len(pieces) - 1)] if pieces else []
            input_ids += pieces
        cut += len(input_ids) > room + 1
        input_ids = [*input_ids[: room + 1], encoder.sep_id]
        labels = [label_ids.get(name, label_ids[OUTSIDE]) for name in names[: room + 1]]
        labels.append(label_ids["[SEP]"])
        windows.append(
            SentenceWindow(Encoded(input_ids, [0] * len(input_ids), labels), number, tuple(places))
        )
    if cut:
        _log.info(
            "%d of %d sentences are longer than %d WordPieces; their ends are cut off, as in the "
            "original.", cut, len(sentences), max_seq_length,
        )  # fmt: skip
    return windows


def word_labels(
    sentences: Sequence[Sentence],
    windows: Iterable[SentenceWindow],
    logits: Iterable[np.ndarray],
    labels: Sequence[str],
) -> list[list[str]]:
    """Returns the predicted label of every word of every sentence.

    Args:
      sentences: the words.
      windows: where each word's first WordPiece stands.
      logits: float32 [S, labels] of each window.
      labels: by their numbers; `PIECE_LABELS` among them count as `O`.

    Differs: where the original predicts its padding class for a word, it writes the third label of
      its list, which is `O` for one of its tasks only.
    """
    predicted = [[OUTSIDE] * len(sentence.words) for sentence in sentences]
    for window, values in zip(windows, logits, strict=True):
        best = values.argmax(axis=-1)
        for word, place in window.places:
            label = labels[best[place]]
            predicted[window.sentence][word] = OUTSIDE if label in PIECE_LABELS else label
    return predicted


def aligned_lines(sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]]) -> list[str]:
    """Returns a line for each line of the input file: a word's label, or nothing.

    The words themselves are not repeated; `paste` puts the two files side by side.
    """
    last = sentences[-1].lines[-1]
    lines = [""] * last
    for sentence, labels in zip(sentences, predicted, strict=True):
        for number, label in zip(sentence.lines, labels, strict=True):
            lines[number - 1] = label
    return lines
