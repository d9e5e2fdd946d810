"""Which words, and which ends and middles of words, save most WordPieces as entries."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from bert_clinical.tokenization import WordpieceTokenizer

MOST_WORDS = 300_000
"""Words that are looked at, those that take most WordPieces; at about 1 KB each."""

_LONGEST_ENTRY = 100
"""Characters; tokenizers elsewhere give up on longer words."""

_UNKNOWN_PIECES = 1 << 60
"""What a word that becomes [UNK] costs: more than anything could save."""

_MARK = "##"


class Entry(NamedTuple):
    """A new entry of the vocabulary.

    Attributes:
      text: a whole word, or `##` and the end or the middle of words.
      spelt_by: the WordPieces that spell it without it.
      saved: WordPieces of the text that it saves beside those chosen before it.
    """

    text: str
    spelt_by: tuple[str, ...]
    saved: int


def choose_entries(
    words: Mapping[str, int],
    vocab: Mapping[str, int],
    num_entries: int,
    *,
    most_words: int = MOST_WORDS,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Entry]:
    """Returns entries in the order in which they are chosen, each time the one that saves most.

    What a whole word saves is found by trying it on all words that begin with it. Of these it may
    split some worse, for the longest entry that fits is taken from the left. A continuation
    promises what it saves where WordPieces meet that it could replace together. It is tried when it
    promises most, and chosen if what it truly saves is no less than what the next one promises. Of
    equals the first in the order of letters comes first.

    Args:
      words: how often each stands in the text; no other word has any influence.
      vocab: the entries that there are.
      num_entries: the most to choose.
      most_words: of the words that take most WordPieces so many are looked at.
      advance: called with the number of entries chosen since.

    Returns:
      Fewer than `num_entries` if no other entry saves anything.
    """
    selection = _Selection(words, vocab, most_words)
    entries: list[Entry] = []
    while len(entries) < num_entries and (entry := selection.choose()) is not None:
        entries.append(entry)
        advance(1)
    return entries


class _Selection:
    def __init__(self, words: Mapping[str, int], vocab: Mapping[str, int], most_words: int) -> None:
        self._old = WordpieceTokenizer(vocab)
        self._vocab = dict(vocab)
        self._new = WordpieceTokenizer(self._vocab)
        self._frequent = words
        self._pieces: dict[str, list[str]] = {}
        for word in words:
            pieces = self._old.split_word(word)
            # A word that is one piece stays one, and what is [UNK] stays so.
            if pieces is not None and len(pieces) > 1:
                self._pieces[word] = pieces
        if len(self._pieces) > most_words:
            costs = {word: words[word] * len(pieces) for word, pieces in self._pieces.items()}
            kept = heapq.nsmallest(most_words, costs, key=lambda word: (-costs[word], word))
            self._pieces = {word: self._pieces[word] for word in kept}
        self._sorted = sorted(self._pieces)
        self._with_pair: defaultdict[str, list[str]] = defaultdict(list)
        for word in self._sorted:
            for pair in {word[place : place + 2] for place in range(1, len(word) - 1)}:
                self._with_pair[pair].append(word)
        self._promised: Counter[str] = Counter()
        # What a candidate truly saves beyond what is promised, and after how many choices.
        self._beyond: dict[str, int] = {}
        self._tried: dict[str, int] = {}
        # Words on which that rests.
        self._rests_on: defaultdict[str, set[str]] = defaultdict(set)
        self._chosen = 0
        for word in self._sorted:
            self._promise(word, 1)
        for text in self._promised:
            self._try_word(text)
        self._queue = [(-self._value(text), text) for text in self._promised]
        heapq.heapify(self._queue)

    def choose(self) -> Entry | None:
        """Adds the next entry to the vocabulary and returns it, None if none saves anything."""
        while self._queue:
            key, text = heapq.heappop(self._queue)
            value = self._value(text)
            # Whenever its value changes a candidate is put in anew.
            if text in self._vocab or value <= 0 or -key != value:
                continue
            if self._tried.get(text) != self._chosen:
                spelt_by = self._spelling(text)
                if spelt_by is None:
                    continue
                self._try(text)
                heapq.heappush(self._queue, (-self._value(text), text))
                continue
            return self._take(text, value)
        return None

    def _value(self, text: str) -> int:
        return self._promised[text] + self._beyond.get(text, 0)

    def _spelling(self, text: str) -> list[str] | None:
        if text.startswith(_MARK):
            return self._old.split_word(text[len(_MARK) :], is_inside=True)
        return self._old.split_word(text)

    def _take(self, text: str, saved: int) -> Entry:
        spelt_by = self._spelling(text)
        assert spelt_by is not None
        self._vocab[text] = len(self._vocab)
        self._chosen += 1
        changed: set[str] = set()
        for word, pieces in self._resplit(text):
            changed.update(self._promise(word, -1))
            self._pieces[word] = pieces
            changed.update(self._promise(word, 1))
            for other in self._rests_on.pop(word, ()):
                self._beyond.pop(other, None)
                changed.add(other)
        for other in changed:
            self._try_word(other)
        for other in changed:
            heapq.heappush(self._queue, (-self._value(other), other))
        return Entry(text, tuple(spelt_by), saved)

    def _try_word(self, text: str) -> None:
        # Words that begin with it, which are few, may gain by it where no WordPieces meet.
        if not text.startswith(_MARK) and text not in self._vocab:
            self._try(text)

    def _try(self, text: str) -> None:
        """Finds out how many WordPieces an entry would truly save."""
        self._vocab[text] = len(self._vocab)
        saved = 0
        resplit = self._resplit(text)
        for word, pieces in resplit:
            now = len(pieces) or _UNKNOWN_PIECES
            saved += self._frequent[word] * (len(self._pieces[word]) - now)
        del self._vocab[text]
        self._tried[text] = self._chosen
        self._beyond[text] = saved - self._promised[text]
        if self._beyond[text]:
            for word, _ in resplit:
                self._rests_on[word].add(text)

    def _resplit(self, text: str) -> list[tuple[str, list[str]]]:
        """Returns the words that are split in another way with an entry, and how."""
        found = []
        for word in self._holding(text):
            pieces = self._new.split_word(word) or []
            if pieces != self._pieces[word]:
                found.append((word, pieces))
        return found

    def _holding(self, text: str) -> Iterable[str]:
        if not text.startswith(_MARK):
            return self._beginning_with(text)
        inside = text[len(_MARK) :]
        pairs = [inside[place : place + 2] for place in range(len(inside) - 1)]
        fewest = min((self._with_pair[pair] for pair in pairs), key=len)
        return (word for word in fewest if word.find(inside, 1) > 0)

    def _beginning_with(self, text: str) -> Iterator[str]:
        for place in range(bisect_left(self._sorted, text), len(self._sorted)):
            if not self._sorted[place].startswith(text):
                return
            yield self._sorted[place]

    def _promise(self, word: str, sign: int) -> list[str]:
        """Adds what a word promises its candidates, or takes it off; returns these."""
        pieces = self._pieces[word]
        times = sign * self._frequent[word]
        candidates = []
        for first in range(len(pieces) - 1):
            text = pieces[first]
            for last in range(first + 1, len(pieces)):
                text += pieces[last][len(_MARK) :]
                if len(text) > _LONGEST_ENTRY:
                    break
                # What words begin with is an entry only where it is a word itself.
                if first > 0 or text in self._frequent:
                    self._promised[text] += times * (last - first)
                    candidates.append(text)
        return candidates
