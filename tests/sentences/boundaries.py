"""Clinical text with sentence boundaries set by hand, and how well a splitter finds them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.sectioning import split_sections
from data_prep.sentences.splitter import SentenceSplitter

_FILE = Path(__file__).with_name("clinical_boundaries.txt")
_SEPARATOR_LINE = re.compile(r"^[^\S\n]*(?:[-=*~#]{3,}|_{4,})[^\S\n]*$", re.MULTILINE)


class Agreement(NamedTuple):
    """How far a splitter and the hand agree.

    Attributes:
      both: boundaries that both set.
      extra: text around each boundary that only the splitter sets.
      missed: text around each that only the hand sets.
    """

    both: int
    extra: list[str]
    missed: list[str]

    @property
    def precision(self) -> float:
        return self.both / (self.both + len(self.extra))

    @property
    def recall(self) -> float:
        return self.both / (self.both + len(self.missed))


def marked_texts() -> list[str]:
    """Returns the texts, with `¦` where a sentence begins."""
    _, *texts = re.split(r"^== .*\n", _FILE.read_text(), flags=re.MULTILINE)
    return [text.strip("\n") for text in texts]


def agreement(splitter: SentenceSplitter) -> Agreement:
    """Returns how far a splitter of the sections agrees with the hand."""
    both = 0
    extra: list[str] = []
    missed: list[str] = []
    for marked in marked_texts():
        by_hand = _SEPARATOR_LINE.sub("", marked).split("¦")
        sections = splitter.split(split_sections(marked.replace("¦", "")))
        found = [sentence for sentences in sections for sentence in sentences]
        text = "".join("".join(found).split())
        assert text == "".join("".join(by_hand).split())
        expected, answered = _boundaries(by_hand), _boundaries(found)
        both += len(expected & answered)
        extra += [_around(text, place) for place in sorted(answered - expected)]
        missed += [_around(text, place) for place in sorted(expected - answered)]
    return Agreement(both, extra, missed)


def _boundaries(sentences: Sequence[str]) -> set[int]:
    """Returns how many characters but white space stand before each sentence after the first."""
    places = set()
    place = 0
    for sentence in sentences[:-1]:
        place += len("".join(sentence.split()))
        places.add(place)
    return places


def _around(text: str, place: int) -> str:
    return f"{text[max(0, place - 20) : place]}¦{text[place : place + 20]}"
