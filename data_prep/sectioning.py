"""Notes to sections: by the rules that were published, or by these with their faults repaired.

Both cut a note at blank lines, around headers (`Allergies:`), before the items of numbered lists
and before lines that begin with a title, and join a title and its answer of one line. Both take
time in proportion to the note's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

RULES = ("fixed", "published")


class SectioningError(Exception):
    """The published rules cannot section this note: the original program loses it.

    The message holds nothing of the note.
    """


def split_sections(text: str, rules: str = "fixed") -> list[str]:
    """Returns the sections of one note, in order.

    Args:
      text: the note.
      rules: "fixed" loses nothing: every character but white space and separator lines (a line of
        three or more of `-`, `=`, `*`, `~` and `#`, or of four or more `_`) stands in some section,
        in the note's order.
        "published" gives what the original program gives, its faults included, so that a published
        corpus can be rebuilt.

    Raises:
      ValueError: there are no such rules.
      SectioningError: under "published", where the original raises an exception and drops the note.

    Source: clinicalBERT, `lm_pretraining/heuristic_tokenize.py` (from mimic-tokenize).
    Differs: "published" needs linear time; "fixed" see `_split_fixed`.
    """
    return _rules_named(rules)(text)


def _rules_named(rules: str) -> Callable[[str], list[str]]:
    known = {"fixed": _split_fixed, "published": _split_published}
    if rules not in known:
        raise ValueError(f"section rules {rules!r} are not known; expected one of {RULES}")
    return known[rules]


# What both rules share.

_STOPWORDS = frozenset({"of", "on", "or"})
_PARENTHESIS = re.compile(r"\([^)]*\)")
_INLINE_TITLE = re.compile(r"([a-zA-Z ]+:) ")


def _is_title(text: str) -> bool:
    """Whether a piece of text is a title: words with a capital, then a colon.

    What stands in parentheses does not count, nor do `of`, `on` and `or`; `Disp:` is no title.
    """
    if not text.endswith(":"):
        return False
    # Beyond the last ")" an opening parenthesis has no partner; looking for one from each would
    # take quadratic time.
    closed = text.rfind(")") + 1
    title = _PARENTHESIS.sub("", text[:closed]) + text[closed:-1]
    if title == "Disp":
        return False
    return all(word in _STOPWORDS or word[0].isupper() for word in title.split())


def _has_inline_title(line: str) -> bool:
    """Whether a line begins with a title and goes on after it."""
    match = _INLINE_TITLE.match(line)
    return match is not None and _is_title(match[1])


# The published rules. Each function is one of their steps and keeps its quirks.

_DASHES = re.compile("---+")
_UNDERSCORES = re.compile("___+")
_BLANK_LINES = re.compile("\n\n+")
_FIRST_SEGMENTS = (
    re.compile("(Admission Date:) (.*) (Discharge Date:) (.*)"),
    re.compile("(Date of Birth:) (.*) (Sex:) (.*)"),
)
_HEADER = re.compile("^([A-Z][^\n:]+:)", re.MULTILINE)
# Takes a whole run of white space at once, so that no character is looked at from two line ends.
_LINE_START = re.compile(r"\n\s*+(?:(\d+)(\.)?)?")


def _split_published(text: str) -> list[str]:
    text = _DASHES.sub("\n\n-----\n\n", text)
    text = _UNDERSCORES.sub("\n\n_____\n\n", text)
    text = _BLANK_LINES.sub("\n\n", text)
    paragraphs = text.split("\n\n")
    first = 0
    segments: list[str] = []
    for pattern in _FIRST_SEGMENTS:
        if first == len(paragraphs):
            raise SectioningError("nothing follows the line of the admission date")
        match = pattern.match(paragraphs[first])
        if match:
            segments += [group.strip() for group in match.groups()]
            first += 1
    for paragraph in paragraphs[first:]:
        segments += _cut_at_headers(paragraph)
    segments = [item for segment in segments for item in _cut_list(segment)]
    segments = [piece for segment in segments for piece in _cut_at_inline_titles(segment)]
    return _join_answers_and_drop(segments)


def _cut_at_headers(paragraph: str) -> Iterator[str]:
    """Cuts before and after each header; at the first place where its words stand, which may be
    earlier than its line.
    """
    start = 0
    for match in _HEADER.finditer(paragraph):
        header = match[1]
        if not _is_title(header):
            continue
        found = paragraph.index(header, start)
        before = paragraph[start:found].strip()
        if before:
            yield before
        yield header
        start = found + len(header)
    rest = paragraph[start:]
    if start == 0:
        # A paragraph of white space becomes an empty segment; one that follows a header does not.
        if rest:
            yield rest.strip()
    elif rest.strip():
        yield rest.strip()


def _cut_list(segment: str) -> Iterator[str]:
    """Cuts before the items of a list, as many as there are consecutive numbers at line starts.

    A number counts if any character follows it, but a cut needs a full stop: so the cuts may run
    out before the numbers do.
    """
    text = "\n" + segment
    line_starts = list(_LINE_START.finditer(text))
    items = [match for match in line_starts if match[2]]
    if not items:
        yield segment
        return
    cuts = _consecutive_numbers(text, items[0], line_starts)
    if cuts is None:
        yield text
        return
    if cuts > len(items):
        raise SectioningError("a numbered list has more numbers than items")
    start = 0
    for item in items[:cuts]:
        before = text[start : item.start()].strip()
        if before:
            yield before
        start = item.start()
    yield text[start:].strip() if cuts else text


def _consecutive_numbers(
    text: str, first: re.Match[str], line_starts: Sequence[re.Match[str]]
) -> int | None:
    """Returns how many of the numbers start, start + 1, ... stand at line starts.

    None if the last of them is below one: then the original sees no list.
    """
    try:
        start = int(first[1])
    except ValueError:
        # Python refuses to read numbers of thousands of digits.
        raise SectioningError("a numbered list begins with too long a number") from None
    present: set[str] = set()
    shortest = len(str(start))
    longest = len(str(start + sum(len(match[1] or "") for match in line_starts)))
    for match in line_starts:
        digits = match[1] or ""
        # The number 12 at a line start counts as the number 1 too, followed by "any character".
        end = min(len(digits), longest)
        for length in range(shortest, end + 1):
            after = match.start(1) + length
            if after < len(text) and text[after] != "\n":
                present.add(digits[:length])
    number = start
    while str(number) in present:
        number += 1
    return None if number - 1 < 1 else number - start


def _cut_at_inline_titles(segment: str) -> Iterator[str]:
    lines: list[str] = []
    for line in segment.split("\n"):
        if lines and _has_inline_title(line):
            yield "\n".join(lines)
            lines = []
        lines.append(line)
    yield "\n".join(lines)


def _join_answers_and_drop(segments: Sequence[str]) -> list[str]:
    """Joins a segment of one line to the title before it; drops it if no title follows."""
    titles = [_is_title(segment) for segment in segments]
    joined: list[str] = []
    for i, segment in enumerate(segments):
        if i == 0 or not titles[i - 1] or titles[i] or "\n" in segment:
            joined.append(segment)
        elif i == len(segments) - 1 or titles[i + 1]:
            joined[-1] += " " + segment
    return joined


# The fixed rules.

_SEPARATOR_LINE = re.compile(r"[-=*~#]{3,}|_{4,}")
_DEIDENTIFIED = re.compile(r"\[\*\*[^\[\]]{0,120}?\*\*\]")
# `Daily at 4`, and on the next line `PM: INR`.
_BEFORE_HALF_OF_DAY = re.compile(r"\n[^\S\n]*+(?=[AP]M:)")
_ENDS_IN_TIME = re.compile(r"(?:\d|\b(?:in|the|this|every|each)) {0,3}\Z")
# Where commas stand for line ends: `She moved.,MEDICATIONS: , None.,ALLERGIES: , None known.`
_COMMA_BEFORE_HEADER = re.compile(r",(?<=[.:?!)],)(?=[A-Z][A-Za-z /&()-]{1,40}:)")
_PAIRS_OF_TITLES = (
    re.compile(r"(Admission Date:)(.*)(Discharge Date:)(.*)"),
    re.compile(r"(Date of Birth:)(.*)(Sex:)(.*)"),
)
# Of three digits at most: a wrapped line may begin with a year.
_ITEM_NUMBER = re.compile(r"\s*(\d{1,3})\.(?!\d)")


def _split_fixed(text: str) -> list[str]:
    """Cuts a note by its lines, each of which goes into exactly one section.

    Differs from the published rules, besides losing nothing: a header is cut where its line starts,
    not where its words first stand; a line of white space is a blank line; `___` is a
    de-identified token, as in MIMIC-IV, and no break; separator lines are left out; the pairs of
    titles are looked for on every line; a number begins an item only as a list has it (1, the
    number after the last one, or one whose successor follows), not where a wrapped line begins with
    a number; a title does not take what follows a separator line for its answer; `[**...**]` and a
    time of day stay whole though a line ends inside them; and a header is found behind a comma that
    stands for a line end.
    """
    sections: list[str] = []
    after_title = False
    answer_waits = False
    for piece, is_title in _pieces(_mend_lines(text)):
        if not piece:
            after_title = False
            continue
        if is_title:
            if answer_waits:
                _join_answer(sections)
            answer_waits = False
        else:
            answer_waits = after_title and "\n" not in piece and not _has_inline_title(piece)
        sections.append(piece)
        after_title = is_title
    if answer_waits:
        _join_answer(sections)
    return sections


def _join_answer(sections: list[str]) -> None:
    answer = sections.pop()
    sections[-1] += " " + answer


def _mend_lines(text: str) -> str:
    """Removes line ends inside what belongs together, and sets them where commas stand for them."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _DEIDENTIFIED.sub(_mended_span, text)
    text = _BEFORE_HALF_OF_DAY.sub(_mended_time, text)
    return _COMMA_BEFORE_HEADER.sub(",\n", text)


def _mended_span(span: re.Match[str]) -> str:
    lines = span[0].split("\n")
    if any(_SEPARATOR_LINE.fullmatch(line.strip()) for line in lines):
        return span[0]
    return " ".join(lines)


def _mended_time(line_end: re.Match[str]) -> str:
    """Returns a space in place of a line end before `AM:` or `PM:` if a time stands before it."""
    place = line_end.start()
    is_inside = _ENDS_IN_TIME.search(line_end.string, max(0, place - 8), place)
    return " " if is_inside else line_end[0]


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yields titles and the pieces between them, stripped, and whether each is a title.

    For a separator line it yields an empty piece.
    """
    body: list[str] = []
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped or _SEPARATOR_LINE.fullmatch(stripped):
            yield from _body_pieces(body)
            body = []
            if stripped:
                yield "", False
            continue
        for part, is_title in _parts_of_line(line, stripped):
            if is_title:
                yield from _body_pieces(body)
                body = []
                yield part, True
            elif part.strip():
                body.append(part)
    yield from _body_pieces(body)


def _parts_of_line(line: str, stripped: str) -> list[tuple[str, bool]]:
    """Returns a line's titles and the rest, and whether each is a title."""
    for pair in _PAIRS_OF_TITLES:
        match = pair.fullmatch(stripped)
        if match:
            first_title, first, second_title, second = match.groups()
            return [(first_title, True), (first, False), (second_title, True), (second, False)]
    header = _HEADER.match(line)
    if header and _is_title(header[1]):
        return [(header[1], True), (line[header.end() :], False)]
    return [(line, False)] if not _is_title(stripped) else [(stripped, True)]


def _body_pieces(lines: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Cuts the lines between titles before items of lists and before inline titles."""
    items = _item_lines(lines)
    start = 0
    for i in range(1, len(lines) + 1):
        if i == len(lines) or i in items or _has_inline_title(lines[i].lstrip()):
            yield "\n".join(lines[start:i]).strip(), False
            start = i


def _item_lines(lines: Sequence[str]) -> set[int]:
    """Returns which of the lines begin an item of a numbered list."""
    matches = ((i, _ITEM_NUMBER.match(line)) for i, line in enumerate(lines))
    numbered = [(i, int(match[1])) for i, match in matches if match]
    items: set[int] = set()
    expected = 1
    for (i, number), following in zip_longest(numbered, numbered[1:]):
        if number in (1, expected) or (following and following[1] == number + 1):
            items.add(i)
            expected = number + 1
    return items
