"""Whether a line end of clinical text ends a sentence, or only wraps it."""

from __future__ import annotations

import re

from data_prep.sentences.clinical_words import LOWER_CASE_HEADERS

# Characters. A line of fewer was not wrapped for want of room.
_WRAP_COLUMN = 45
_LONGEST_WORD = 20

NUMBERED_ITEM = re.compile(r"(\d{1,3})[.)](?!\d)")
_SEPARATOR_LINE = re.compile(r"[^\S\n]*[-=*~#_]{3,}[^\S\n]*(?:\n|\Z)")
# A bullet that is one wherever a line begins with it.
_BULLET = re.compile(
    r"[•·◦▪▫■□●○‣⁃∙→➔➢✓◆❖]|[-*+#>~o–—](?=\s|[A-Z])|--|"
    r"[=-]>|#\d|#\.|\[[ xX]?\](?=\s|\w)|\d{1,2}[a-z][.)]\s"
)
# What begins an item as a rule and may begin the rest of a wrapped line.
_ITEM_LETTER = re.compile(r"(?:[A-Za-z]|[IVX]{1,5}|[ivx]{1,5})[.)]\s")
_ITEM_IN_PARENTHESES = re.compile(r"\((?:\d{1,2}|[a-z]|[ivx]{1,5})\)\s")
_TIGHT_BULLET = re.compile(r"[-*~+>](?=\w)")
_LABORATORY_LINE = re.compile(r"(?:\[\*\*[^*]*\*\*\]|___)\s+\d{1,2}:\d\d|\d{1,2}:\d\d\s?[AP]M\b")
_TITLED_LINE = re.compile(r"[A-Z][A-Za-z0-9 /()&-]{0,40}:(?=\s|\Z)|[A-Z][a-z]+ - ")
_LOWER_CASE_TITLE = re.compile(
    r"((?:history|review|reason|date|past|brief)(?= (?:[a-z/&]{1,15} ){2,3}[a-z/&]{1,15}:)|"
    r"[a-z][a-z0-9/&]{0,20}(?=(?: [a-z/&]{1,15}){0,2}:))[a-z/& ]*:(?=\s|\Z)"
)
_DOSE_LINE = re.compile(
    r"[a-z-]+ (?:[a-z]+ )?\d+(?:\.\d+)? ?(?:mg|mcg|g|gm|units?|meq|mEq|ml|tabs?)\b"
)
_HALF_OF_DAY = re.compile(r"[AaPp]\.?[Mm]\b")
_ENDS_IN_TIME = re.compile(r"(?:\d|\b(?:in|the|this|every|each))\Z")
_ANSWER = re.compile(r"[:?] ?no\Z")
GOES_ON = re.compile(
    r"""(?:[,;/&(+=-]|\b(?:of|the|a|an|and|or|nor|but|with|without|to|for|by|on|in|at|from|into|onto|
    over|under|after|before|during|until|since|via|versus|vs|was|is|were|are|be|been|being|has|have|
    had|his|her|their|its|our|this|these|those|per|no|not|w/|s/p|h/o|c/o|r/o|that|which|who|whose|
    status|post|than|as|if|when|while|because|including|such|both|between|would|could|should|
    further|possible|probable|suspected|new|recent|previous|acute|chronic|additional|another|
    some|any|through|against|within|received|underwent|
    takes|took|uses|needs|requires|showed|shows|revealed|reveals|denies|denied|non|
    (?:was|were|been)\ given|The|An?|And|With|To|For|By|On|In|At|From|After|Before|During|Since|His|
    Her|Their|This|These|No|Dr\.|Drs\.|Mr\.|Mrs\.|Ms\.|St\.))\Z""",
    re.VERBOSE,
)


def ends_at_line(text: str, start: int, line_start: int, line: str, end: int) -> bool:
    """Whether the sentence from `start` ends at a line end.

    Args:
      text: the section.
      start: where the sentence begins.
      line_start: where the line begins.
      line: the line, without the white space behind it.
      end: where the next line's text begins.
    """
    if text.count("\n", line_start + len(line), end) > 1:
        return True
    if _SEPARATOR_LINE.match(text, end) or _SEPARATOR_LINE.match(text, line_start):
        return True
    if _BULLET.match(text, end) or _LABORATORY_LINE.match(text, end):
        return True
    is_short = len(line) < _WRAP_COLUMN
    goes_on = GOES_ON.search(line, max(0, len(line) - _LONGEST_WORD)) and not _ANSWER.search(line)
    number = NUMBERED_ITEM.match(text, end)
    if number:
        return not goes_on or _is_next_number(text, start, int(number[1]))
    if _HALF_OF_DAY.match(text, end) and _ENDS_IN_TIME.search(line):
        return False
    if _TITLED_LINE.match(text, end):
        return True
    if _begins_item(text, start, end):
        return not goes_on and (
            is_short or line[-1:] in ".:;?!" or _begins_item(text, start, start)
        )
    if _TIGHT_BULLET.match(text, end) and not goes_on:
        return is_short or line[-1:] in ".:;?!" or _is_one_of_many(text, start, end)
    title = _LOWER_CASE_TITLE.match(text, end)
    if title and not goes_on:
        return is_short or title[1] in LOWER_CASE_HEADERS
    if not is_short:
        return False
    if line.endswith(":"):
        return True
    first = text[end : end + 1]
    begins = first.isupper() or first.isdigit() or _DOSE_LINE.match(text, end) is not None
    return begins and not goes_on


def _is_next_number(text: str, start: int, number: int) -> bool:
    own = NUMBERED_ITEM.match(text, start)
    return own is not None and int(own[1]) + 1 == number


def _begins_item(text: str, start: int, place: int) -> bool:
    return bool(_ITEM_LETTER.match(text, place) or _ITEM_IN_PARENTHESES.match(text, place))


def _is_one_of_many(text: str, start: int, end: int) -> bool:
    """Whether the line at `end` begins with the sign with which another line near it begins."""
    sign = text[end]
    return text.startswith(sign, start) or text.find("\n" + sign, end, end + 400) >= 0
