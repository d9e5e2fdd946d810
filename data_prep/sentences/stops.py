"""Whether a full stop, a question mark or an exclamation mark ends a sentence of clinical text."""

from __future__ import annotations

import re

from data_prep.sentences.clinical_words import (
    AGED,
    BEFORE_NUMBERS,
    CONJUNCTIONS,
    DOTTED_LAST,
    FIRST_OR_LAST,
    GRADED,
    LOWER_CASE_STARTERS,
    MAYBE_LAST,
    NEVER_LAST,
    OF_SOMETHING,
    PATIENTS,
    PERSONS,
    STARTERS,
    STARTERS_IN_CAPITALS,
)
from data_prep.sentences.line_ends import GOES_ON, NUMBERED_ITEM

_WORD_BEFORE = re.compile(r"[^\s,]*\Z")
_NEXT_WORD = re.compile(r"\s*+(\S{0,40})")
_INLINE_NUMBER = re.compile(r"(?<!\S)(\d{1,3})\Z")
_LETTER = re.compile(r"[^\W\d_]")
_LITRES = re.compile(r"\d\s?L\Z")
_TIME_OR_WEIGHT = re.compile(r"\d\s?[dhwyg]\Z")
_ANSWER = re.compile(
    r"\s*(?:yes|no|none|n/a|unknown|denies|denied|y|n)[.,;](?=\s|\Z)", re.IGNORECASE
)
# pH, pCO2, eGFR: no sentence that begins in lower case.
_SMALL_THEN_CAPITAL = re.compile(r"[a-z][A-Z]")
_DOSE_WORD = re.compile(
    r"(?:PO|IV|IM|SC|SQ|SL|PR|NG|PRN|BID|TID|QID|QD|QOD|QHS|QAM|QPM|DAILY|HS|STAT|Q\d\S*|X\d*)\W*\Z"
)
_UNIT = r"(?:MG|MCG|GM|G|MEQ|UNITS?|ML|CC|TABS?|CAPS?|PUFFS?)\b"
_DOSE = re.compile(rf"\d\s?{_UNIT}")
_DOSE_OF = re.compile(rf"\s*[A-Z][A-Z-]{{3,}}(?: [A-Z]+)? \d[\d.,/-]*\s?{_UNIT}")
_DOTTED = re.compile(r"[A-Za-z]{1,2}\.(?:\w{1,3}\.)*\w{1,3}\Z")
_LIST_NUMBER = re.compile(r"[(#]?(?:\d{1,3}[a-z]?|[A-Za-z]|[ivx]{2,4}|[IVX]{2,5})?[.)]*\Z")
_LETTERED_ITEM = re.compile(r"[b-z][.)]\Z")
_OPENED_BY_TITLE = re.compile(r"[:?]\s*,?\s*\Z|\.,\s*\Z|#\s\Z")
_TITLE = re.compile(r"\s*[A-Z][A-Za-z0-9/&()-]*(?: [A-Za-z0-9/&()-]+){0,4}:")
_AGE = re.compile(r"\d[\s-]?(?:mos?|yrs?|wks?)\Z")
_ROMAN = re.compile(r"[ivx]+\Z")
_NOT_PLAIN = "\"'‘’“”(),.;:?!"


def end_at_stop(text: str, start: int, begin: int, end: int) -> int:
    """Returns where the sentence from `start` ends, given the stop at `begin`..`end`; or 0.

    That is behind the stop, or before it where the stop belongs to the next number of a list.
    """
    item = _INLINE_NUMBER.search(text, max(start, begin - 4), begin)
    if item and text[begin] == "." and text[start : start + 1].isdigit():
        own = NUMBERED_ITEM.match(text, start, item.start())
        before = text[max(start, item.start() - 20) : item.start()].rstrip()
        if own and int(item[1]) == int(own[1]) + 1 and not GOES_ON.search(before):
            return item.start()
    return end if _ends(text, start, begin, end) else 0


def _ends(text: str, start: int, begin: int, end: int) -> bool:
    following = _NEXT_WORD.match(text, end)
    next_word = following[1] if following else ""
    first = next_word.lstrip("\"'‘“(")[:1]
    if text[begin] == "?" and _ANSWER.match(text, end):
        return False
    if text[begin] != "." or text.startswith("..", begin):
        return not first.islower()
    before = _WORD_BEFORE.search(text, max(start, begin - 40), begin)
    raw_word = before[0] if before else ""
    word_start = begin - len(raw_word)
    if _LIST_NUMBER.match(raw_word) and (
        word_start <= start or _OPENED_BY_TITLE.search(text, max(start, word_start - 3), word_start)
    ):
        return False
    word = raw_word.lstrip("\"'‘“([{/-").replace("*", "")
    if first.islower() and not _SMALL_THEN_CAPITAL.match(next_word):
        return _ends_before_lower_case(text, start, begin, word, next_word)
    return _ends_before_other(text, start, begin, end, word, next_word)


def _ends_before_lower_case(text: str, start: int, begin: int, word: str, next_word: str) -> bool:
    """Whether a stop ends a sentence though what follows begins in lower case."""
    lowered = word.lower()
    is_first_word = begin - len(word) <= start
    may_be_last = lowered in MAYBE_LAST or (
        lowered in FIRST_OR_LAST and lowered not in PATIENTS and not is_first_word
    )
    if may_be_last and next_word.strip(_NOT_PLAIN) in LOWER_CASE_STARTERS:
        return True
    if len(word) == 1 or _DOTTED.match(word) or _is_abbreviation(lowered):
        return False
    if _LETTERED_ITEM.match(next_word) or next_word.strip(_NOT_PLAIN) in LOWER_CASE_STARTERS:
        return True
    # Who began this sentence in lower case begins the next one so.
    letter = _LETTER.search(text, start)
    return letter is not None and letter[0].islower()


def _ends_before_other(
    text: str, start: int, begin: int, end: int, word: str, next_word: str
) -> bool:
    """Whether a stop ends a sentence before a capital, a number or a sign."""
    lowered = word.lower()
    first = next_word.lstrip("\"'‘“(")[:1]
    plain_next = next_word.strip(_NOT_PLAIN).lower()
    is_first_word = begin - len(word) <= start
    in_capitals = next_word.isupper() and text[start:begin].isupper()
    starters = STARTERS_IN_CAPITALS if in_capitals else STARTERS
    begins = first.isupper() or first == "[" or _SMALL_THEN_CAPITAL.match(next_word) is not None
    if in_capitals and plain_next in CONJUNCTIONS:
        return False
    if next_word.strip(_NOT_PLAIN) == "AS":
        # Aortic stenosis.
        plain_next = ""
    if word in ("MR", "MS") and not in_capitals:
        # Mitral regurgitation, and mental status.
        return True
    if lowered == "no" and _OPENED_BY_TITLE.search(text, max(start, begin - 6), begin - 2):
        return True
    if lowered in NEVER_LAST or lowered.rpartition("/")[2] in NEVER_LAST:
        return False
    if lowered in OF_SOMETHING:
        is_verb = begins and plain_next.endswith("ed")
        return plain_next in starters or is_verb or _TITLE.match(text, end) is not None
    if in_capitals and _DOSE_OF.match(text, end) and _DOSE.search(text, start, begin):
        return True
    if _LITRES.search(text, max(start, begin - 3), begin):
        return True
    if _TIME_OR_WEIGHT.search(text, max(start, begin - 3), begin):
        return begins and not _DOSE_WORD.match(next_word)
    if len(word) == 1 and word.isalpha():
        return first.isupper() and plain_next in starters
    if lowered.endswith(("y.o", "y/o", "yo")):
        return plain_next in starters and plain_next not in AGED
    if _DOTTED.match(word):
        if word.islower() or (lowered in DOTTED_LAST and not in_capitals):
            return begins and not _DOSE_WORD.match(next_word)
        return plain_next in starters or _TITLE.match(text, end) is not None
    if lowered in BEFORE_NUMBERS and first.isdigit():
        return False
    if lowered in GRADED and _ROMAN.match(plain_next):
        return False
    if plain_next in PERSONS and _AGE.search(text, max(start, begin - 6), begin):
        return False
    if lowered in MAYBE_LAST or lowered in FIRST_OR_LAST:
        if in_capitals:
            return plain_next in starters or _TITLE.match(text, end) is not None
        if lowered in FIRST_OR_LAST and is_first_word:
            return plain_next in starters
        return begins and not _DOSE_WORD.match(next_word)
    return True


def _is_abbreviation(lowered: str) -> bool:
    return (
        lowered in NEVER_LAST
        or lowered in MAYBE_LAST
        or lowered in BEFORE_NUMBERS
        or lowered in FIRST_OR_LAST
        or lowered in OF_SOMETHING
        or lowered.rpartition("/")[2] in NEVER_LAST
    )
