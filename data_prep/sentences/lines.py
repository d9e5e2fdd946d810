"""How sentences are written: one a line."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A de-identified span, in which the original breaks no sentence.
DEIDENTIFIED = re.compile(r"\[\*\*.{0,15}.*?\*\*\]")


def sentence_lines(sentences: Sequence[str]) -> list[str]:
    """Returns sentences as they are written: line ends become spaces, blank ones are left out.

    Differs: the original writes a sentence of white space alone too, a blank line, at which the
    reader of pretraining text would end the document; and it keeps a carriage return, which some
    readers take for a line end.
    """
    lines = [sentence.replace("\n", " ").replace("\r", " ") for sentence in sentences]
    return [line for line in lines if line and not line.isspace()]
