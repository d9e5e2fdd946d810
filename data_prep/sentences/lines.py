"""How sentences are written: one a line."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A de-identified span, in which the original breaks no sentence.
DEIDENTIFIED = re.compile(r"\[\*\*.{0,15}.*?\*\*\]")


def sentence_lines(sentences: Sequence[str], *, as_published: bool = False) -> list[str]:
    """Returns sentences as they are written: line ends become spaces, blank ones are left out.

    Args:
      sentences: as they stand in the note.
      as_published: write what the original writes.

    Differs: the original, and `as_published`, writes a sentence of white space alone too, a line of
    spaces, at which its reader ends the document; and it keeps a carriage return, which some
    readers take for a line end.
    """
    if as_published:
        return [sentence.replace("\n", " ") for sentence in sentences if sentence]
    lines = [sentence.replace("\n", " ").replace("\r", " ") for sentence in sentences]
    return [line for line in lines if line and not line.isspace()]
