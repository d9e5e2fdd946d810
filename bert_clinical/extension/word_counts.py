"""How often each word stands in a text, and with how many patients, in one pass."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bert_clinical.extension import kernels
from bert_clinical.tokenization import BasicTokenizer
from bert_clinical.wordpieces.line_encoder import PartCache
from data_prep.common.documents import Document, patients_file, read_documents
from data_prep.common.patients import UNKNOWN, read_hash

MOST_WORDS = 2_000_000
"""Different words that are kept, at about 200 bytes each."""

_PARTS_CACHED = 500_000
_BYTES_AT_A_TIME = 1 << 20
_FEWEST_SLOTS = 1 << 16
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass
class WordCounts:
    """What was counted.

    Attributes:
      words: the different words, by their numbers.
      carriers: int32 [V], with how many patients each stands, or in how many documents; counted up
        to a limit.
      by_patient: whether patients were counted.
      documents: how many there are.
      texts: the name of a text → numbers of its words and how often it has each.
      forgotten: the name of a text → its words that were too rare to be kept.
    """

    words: list[str]
    carriers: np.ndarray
    by_patient: bool
    documents: int
    texts: dict[str, tuple[np.ndarray, np.ndarray]]
    forgotten: dict[str, int]

    def totals(self) -> np.ndarray:
        """Returns int64 [V], how often each word stands in all texts."""
        totals = np.zeros(len(self.words), np.int64)
        for numbers, counts in self.texts.values():
            totals[numbers] += counts
        return totals


def text_name(path: Path) -> str:
    """Returns what a text is, by its file's name: `discharge_summary` for each of its shards."""
    return _SHARD.sub("", path.name.removesuffix(".gz").removesuffix(".txt"))


def count_words(
    files: Sequence[Path],
    *,
    do_lower_case: bool,
    most_carriers: int,
    most_words: int = MOST_WORDS,
    advance: Callable[[int, int], None] = lambda size, words: None,
) -> WordCounts:
    """Counts the words that `BasicTokenizer` finds.

    Memory stays bounded: whenever there are more than `most_words` different words, the rarest half
    or more are forgotten, and counted anew should they return.

    Args:
      files: a sentence a line, a blank line between documents. If a file beside each of them says
        whose the documents are, patients are counted, else documents.
      do_lower_case: as for `BasicTokenizer`.
      most_carriers: how far is counted with how many patients a word stands.
      most_words: different words to keep.
      advance: called now and then with the bytes, as stored, and the words read since.

    Raises:
      UserError: a file cannot be read, is no UTF-8, or has not as many patients as documents.
    """
    by_patient = all(patients_file(path).exists() for path in files)
    counter = _Counter(BasicTokenizer(do_lower_case), by_patient, most_carriers, most_words)
    by_text: dict[str, list[Path]] = {}
    for path in files:
        by_text.setdefault(text_name(path), []).append(path)
    read = 0

    def note(size: int) -> None:
        nonlocal read
        read += size

    for name, paths in by_text.items():
        for path in paths:
            for document in read_documents(path, advance=note):
                if counter.add(document):
                    advance(read, counter.count())
                    read = 0
        advance(read, counter.count())
        read = 0
        counter.end_text(name)
    return WordCounts(
        words=list(counter.numbers),
        carriers=counter.carriers[: len(counter.numbers)].copy(),
        by_patient=by_patient,
        documents=counter.documents,
        texts=counter.texts,
        forgotten=counter.forgotten,
    )


class _Numbers(dict[str, bytes]):
    """Word → its number, which it gets when it is first asked for."""

    def __missing__(self, word: str) -> bytes:
        number = array("I", [len(self)]).tobytes()
        self[word] = number
        return number


@dataclass
class _Batch:
    """Documents that are yet to be counted."""

    words: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=lambda: [0])
    patients: list[int] = field(default_factory=list)


class _Counter:
    def __init__(
        self, basic: BasicTokenizer, by_patient: bool, most_carriers: int, most_words: int
    ) -> None:
        self._basic = basic
        self._by_patient = by_patient
        self._most_carriers = most_carriers
        self._most_words = most_words
        self.texts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.forgotten: dict[str, int] = {}
        self.documents = 0
        self._forgotten_here = 0
        self._batch = _Batch()
        self.carriers = np.zeros(0, np.int32)
        self._counts = np.zeros(0, np.int64)
        self._last = np.zeros(0, np.int64)
        self._slots = np.zeros(_FEWEST_SLOTS, np.uint32), np.zeros(_FEWEST_SLOTS, np.uint64)
        self._taken = 0
        self._set_numbers(_Numbers())

    def _set_numbers(self, numbers: _Numbers) -> None:
        self.numbers = numbers
        self._parts = PartCache(self._basic, numbers, _PARTS_CACHED).__getitem__

    def add(self, document: Document) -> bool:
        """Takes a document; tells whether there is enough to be counted."""
        batch = self._batch
        words = b"".join(map(self._parts, " ".join(document.lines).split(" ")))
        batch.words.append(words)
        batch.ends.append(batch.ends[-1] + len(words))
        batch.patients.append(UNKNOWN if document.patient is None else read_hash(document.patient))
        return batch.ends[-1] >= _BYTES_AT_A_TIME

    def count(self) -> int:
        """Counts what was taken; returns how many words those were."""
        batch, self._batch = self._batch, _Batch()
        words = np.frombuffer(b"".join(batch.words), np.uint32)
        self._make_room(len(words))
        self._taken += kernels.count(
            words, np.array(batch.ends, np.int64) // words.itemsize,
            np.array(batch.patients, np.uint64), self.documents, self._by_patient,
            self._most_carriers, self._counts, self._last, self.carriers, *self._slots,
        )  # fmt: skip
        self.documents += len(batch.patients)
        if len(self.numbers) > self._most_words:
            self._forget()
        return len(words)

    def end_text(self, name: str) -> None:
        """Keeps what was counted since the last text ended."""
        (numbers,) = np.nonzero(self._counts)
        self.texts[name] = numbers.astype(np.uint32), self._counts[numbers]
        self.forgotten[name] = self._forgotten_here
        self._counts[:] = 0
        self._forgotten_here = 0

    def _make_room(self, words: int) -> None:
        if len(self.numbers) > len(self._counts):
            more = 2 * len(self.numbers) - len(self._counts)
            self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])
            self._last = np.concatenate([self._last, np.full(more, -1, np.int64)])
            self.carriers = np.concatenate([self.carriers, np.zeros(more, np.int32)])
        # Three of four slots taken are few enough to find a free one soon.
        if self._by_patient and 4 * (self._taken + words) > 3 * len(self._slots[0]):
            self._move(np.arange(len(self._counts)), self._taken + words)

    def _move(self, numbers: np.ndarray, pairs: int) -> None:
        size = _FEWEST_SLOTS
        while 3 * size < 4 * pairs:
            size *= 2
        slots = np.zeros(size, np.uint32), np.zeros(size, np.uint64)
        self._taken = kernels.move(*self._slots, numbers, *slots)
        self._slots = slots

    def _forget(self) -> None:
        """Forgets the rarest half of the words or more."""
        size = len(self.numbers)
        totals = self._counts[:size].copy()
        for numbers, counts in self.texts.values():
            totals[numbers] += counts
        kept = totals > np.partition(totals, size // 2)[size // 2]
        renumbered = np.where(kept, np.cumsum(kept) - 1, -1)
        self._forgotten_here += int(self._counts[:size][~kept].sum())
        for name, (numbers, counts) in self.texts.items():
            is_kept = kept[numbers]
            self.forgotten[name] += int(counts[~is_kept].sum())
            self.texts[name] = renumbered[numbers[is_kept]].astype(np.uint32), counts[is_kept]
        self.carriers = self.carriers[:size][kept]
        self._counts = self._counts[:size][kept]
        self._last = self._last[:size][kept]
        self._move(renumbered, self._taken)
        words = (word for word, is_kept in zip(self.numbers, kept, strict=True) if is_kept)
        numbers_by_word = _Numbers()
        for word in words:
            numbers_by_word[word]
        self._set_numbers(numbers_by_word)
