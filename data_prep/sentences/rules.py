"""Sentences of clinical text by rules, without a model.

A full stop ends a sentence unless it belongs to an abbreviation, an initial or the number of a list
item, or the text goes on in lower case. A line end ends one where the next line is a list item, a
laboratory or titled line, or where the line is too short to have been wrapped. Nothing ends one
inside `[**...**]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from data_prep.sentences.line_ends import ends_at_line
from data_prep.sentences.lines import sentence_lines
from data_prep.sentences.stops import end_at_stop

# Where a sentence may end: after closing punctuation and before white space; at a line end; or at a
# comma, where those stand for line ends (`allergies.,  She moved.,MEDICATIONS: , None.,`).
# Possessive, and from the first character of a run only, so that no run is looked at twice. It
# begins with one class of characters, for which `re` has a fast search.
_CANDIDATE = re.compile(
    r"""[.?!,\n](?:
    (?<=\n)\s*+
    |(?<=[.?!])(?<![.?!][.?!])[.?!]*+["'’”)\]]*+(?:(?=\s)|,(?=\s{2}|[A-Z0-9]))
    |(?<=,)(?=[A-Z][A-Za-z\ /&()-]{1,40}:)
    )""",
    re.VERBOSE,
)
_DEIDENTIFIED = re.compile(r"\[\*\*.{0,120}?\*\*\]", re.DOTALL)


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
            ends = end_at_stop(text, start, begin, end)
        elif text[begin] == ",":
            ends = end
        else:
            line = text[line_start:begin].rstrip()
            ends = end if ends_at_line(text, start, line_start, line, end) else 0
            line_start = end
        if ends:
            yield ends
            start = _first_character(text, ends)


def _first_character(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start
