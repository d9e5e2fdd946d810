"""Sentences of clinical text by rules, without a model.

A full stop ends a sentence unless it belongs to an abbreviation, an initial or the number of a list
item, or the text goes on in lower case. A line end ends one where the next line is a list item, a
laboratory or titled line, or where the line is too short to have been wrapped. Nothing ends one
inside `[**...**]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from data_prep.sentences.lines import sentence_lines

# Where a sentence may end: after closing punctuation and before white space, or at a line end.
# Possessive, and from the first character of a run only, so that no run is looked at twice.
_CANDIDATE = re.compile(
    r"""(?<![.?!])[.?!]++["'’”)\]]*+(?=\s)|(?<![^\S\n])[^\S\n]*+\n\s*+""",
)
_DEIDENTIFIED = re.compile(r"\[\*\*.{0,120}?\*\*\]", re.DOTALL)
_WORD_BEFORE = re.compile(r"\S*\Z")
_NEXT_WORD = re.compile(r"\s*+(\S{0,40})")
_INLINE_NUMBER = re.compile(r"(?<!\S)(\d{1,3})\Z")
_LITRES = re.compile(r"\d\s?L\Z")

# Abbreviations before which a stop ends nothing: a name, a number or a clause follows.
_NEVER_LAST = frozenset(
    """dr drs mr mrs ms prof st mt ft rev sgt capt lt vs v cf e.g i.e eg ie viz no nos fig figs tel
    ext approx ca dept hosp univ incl esp resp temp wt ht resp max min ave avg vol ref jan feb mar
    apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri gen sp spp subsp var a.k.a
    s/p r/o c/o w/ sig neg pos est addl pt pts diff equiv""".split()
)
# Abbreviations that may end a sentence: they do if one plainly begins after them.
_MAYBE_LAST = frozenset(
    """mg mcg ml cc kg gm g l dl oz lb lbs in cm mm tab tabs cap caps susp supp inj soln sol oint
    gtt gtts amp amps hr hrs min mins sec secs wk wks mo mos yr yrs qd bid tid qid qhs qam qpm prn
    po iv im sc sq sl pr etc al inc ltd co corp jr sr ave blvd rd phd md rn np pa do""".split()
)
_DOSE_WORD = re.compile(
    r"(?:PO|IV|IM|SC|SQ|SL|PR|NG|PRN|BID|TID|QID|QD|QOD|QHS|QAM|QPM|DAILY|HS|STAT|Q\d\S*|X\d*)\W*\Z"
)
_DOTTED = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]\Z")
_LIST_NUMBER = re.compile(r"[(#]?(?:\d{1,3}|[A-Za-z]|[ivx]{2,4})[.)]*\Z")

# Words with which sentences begin. After an initial or an upper-case abbreviation a capital may as
# well begin a name; after an ordinary word a sloppy note may begin in lower case.
_STARTERS = frozenset(
    """he she they we i it the this that these those there patient pt his her their our a an in on
    at after before during upon over per please no not denies denied reports reported will was when
    while with without given although however since if as for from all continue continued
    discharged follow plan one two both repeat see also then and but so your you who""".split()
)
_LOWER_CASE_STARTERS = frozenset("he she they we the patient pt denies no".split())

_LIST_ITEM = re.compile(r"(?:\d{1,3}[.)](?!\d)|[-*•·+#>o–—](?=\s|[A-Z])|--|[•·])")
_LABORATORY_LINE = re.compile(r"(?:\[\*\*[^*]*\*\*\]|___)\s+\d{1,2}:\d\d|\d{1,2}:\d\d\s?[AP]M\b")
_TITLED_LINE = re.compile(r"[A-Z][A-Za-z0-9 /()&-]{0,40}:(?=\s|\Z)|[A-Z][a-z]+ - ")
_WRAP_COLUMN = 45
_GOES_ON = re.compile(
    r"""(?:[,;/&(+=-]|\b(?:of|the|a|an|and|or|with|to|for|by|on|in|at|from|was|is|were|are|be|has|
    had|his|her|per|no|not|w/|s/p|h/o|that|which|who|status|post|than|as|Dr\.|Mr\.|Mrs\.|Ms\.))\Z""",
    re.VERBOSE,
)


class RuleSplitter:
    """Splits sections by `split_by_rules`."""

    @property
    def description(self) -> dict[str, str]:
        """Names and versions of what decides the sentences, for a manifest."""
        return {"sentence_splitter": "rules"}

    def split(self, sections: Sequence[str]) -> list[list[str]]:
        """Returns each section's sentences as they are written, one a line."""
        return [sentence_lines(split_by_rules(section)) for section in sections]


def split_by_rules(section: str) -> list[str]:
    """Returns the sentences of one section, stripped; line ends within them stay.

    Every character but the white space between sentences stands in one of them.
    """
    text = section.strip().replace("\r\n", "\n")
    sentences = []
    start = 0
    for end in _ends(text):
        sentences.append(text[start:end].strip())
        start = end
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends(text: str) -> Iterator[int]:
    """Yields where sentences end, but for the last one."""
    spans = _DEIDENTIFIED.finditer(text) if "[**" in text else iter(())
    span = next(spans, None)
    start = 0
    line_start = 0
    for candidate in _CANDIDATE.finditer(text):
        begin, end = candidate.span()
        while span is not None and span.end() <= begin:
            span = next(spans, None)
        if span is not None and span.start() <= begin:
            continue
        if text[begin] in ".?!":
            ends = _end_at_stop(text, start, begin, end)
        else:
            ends = end if _ends_at_line(text, line_start, begin, end) else 0
            line_start = end
        if ends:
            yield ends
            start = _first_character(text, ends)


def _end_at_stop(text: str, start: int, begin: int, end: int) -> int:
    """Returns where the sentence from `start` ends, given the stop at `begin`..`end`; or 0.

    That is behind the stop, or before it where the stop belongs to the next number of a list.
    """
    item = _INLINE_NUMBER.search(text, max(start, begin - 4), begin)
    if item and text[begin] == "." and text[start : start + 1].isdigit():
        own = _LIST_ITEM.match(text, start, item.start())
        before = text[max(start, item.start() - 20) : item.start()].rstrip()
        if own and int(item[1]) == int(own[0][:-1]) + 1 and not _GOES_ON.search(before):
            return item.start()
    return end if _ends_at_stop(text, start, begin, end) else 0


def _ends_at_stop(text: str, start: int, begin: int, end: int) -> bool:
    """Whether the sentence from `start` ends with the stop at `begin`..`end`."""
    following = _NEXT_WORD.match(text, end)
    next_word = following[1] if following else ""
    first = next_word.lstrip("\"'‘“(")[:1]
    plain_next = next_word.strip("\"'‘’“”(),.;:").lower()
    if text[begin] != ".":
        return not first.islower()
    before = _WORD_BEFORE.search(text, max(start, begin - 40), begin)
    raw_word = before[0] if before else ""
    if begin - len(raw_word) <= start and _LIST_NUMBER.match(raw_word):
        return False
    word = raw_word.lstrip("\"'‘“([{/-").replace("*", "")
    lowered = word.lower()
    if text.startswith("..", begin):
        return not first.islower()
    if first.islower():
        return (
            plain_next in _LOWER_CASE_STARTERS
            and len(word) > 3
            and word.isalpha()
            and lowered not in _NEVER_LAST
            and lowered not in _MAYBE_LAST
        )
    if lowered in _NEVER_LAST or lowered.rpartition("/")[2] in _NEVER_LAST:
        return False
    if _LITRES.search(text, max(start, begin - 3), begin):
        return True
    if len(word) == 1 and word.isalpha():
        return first.isupper() and plain_next in _STARTERS
    if _DOTTED.match(word):
        if word.islower():
            return not _DOSE_WORD.match(next_word) and (first.isupper() or first == "[")
        return plain_next in _STARTERS
    if lowered in _MAYBE_LAST:
        return (first.isupper() or first == "[") and not _DOSE_WORD.match(next_word)
    return True


def _ends_at_line(text: str, line_start: int, begin: int, end: int) -> bool:
    """Whether a sentence ends at the line end at `begin`..`end`, white space included."""
    if text.count("\n", begin, end) > 1:
        return True
    if (
        _LIST_ITEM.match(text, end)
        or _LABORATORY_LINE.match(text, end)
        or _TITLED_LINE.match(text, end)
    ):
        return True
    if begin - line_start >= _WRAP_COLUMN:
        return False
    line = text[line_start:begin]
    if line.endswith(":"):
        return True
    first = text[end : end + 1]
    return (first.isupper() or first.isdigit()) and not _GOES_ON.search(line)


def _first_character(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start
