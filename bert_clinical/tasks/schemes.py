"""Ways to label the words of entities, and how they become BIO."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bert_clinical.tasks.scores import OUTSIDE

BIO, IOB1, BIOES, BILOU = "BIO", "IOB1", "BIOES", "BILOU"

LABEL = re.compile(r"O|[BI](-\S+)?|[ESLU]-\S+")
"""A label of any of them."""

_MARKS = {"B": "B", "I": "I", "E": "I", "L": "I", "S": "B", "U": "B"}


def to_bio(sentences: Sequence[Sequence[str]]) -> tuple[list[tuple[str, ...]], str]:
    """Returns the labels of each sentence in BIO, and the scheme that they were in.

    BIOES marks the last word of an entity E and a single one S, BILOU L and U. IOB1 has B only
    where an entity follows another of its type at once. The entities stay the same; labels that
    are BIO stay as they are, those that break its rules too.

    Args:
      sentences: labels that match `LABEL`.

    Differs: the original learns the labels as it finds them.
    """
    marks = {label[0] for labels in sentences for label in labels}
    if marks <= {OUTSIDE, "B", "I"}:
        scheme = IOB1 if _is_iob1(sentences) else BIO
    else:
        scheme = BILOU if marks & {"L", "U"} else BIOES
    if scheme == IOB1:
        return [
            tuple(
                f"B{label[1:]}" if label[0] == "I" and _begins(before, label) else label
                for before, label in _with_the_one_before(labels)
            )
            for labels in sentences
        ], scheme
    return [
        tuple(label if label == OUTSIDE else _MARKS[label[0]] + label[1:] for label in labels)
        for labels in sentences
    ], scheme


def _is_iob1(sentences: Sequence[Sequence[str]]) -> bool:
    """Tells whether an entity begins with I, and none with B that could begin with I."""
    pairs = [pair for labels in sentences for pair in _with_the_one_before(labels)]
    beginnings = {label[0] for before, label in pairs if _begins(before, label)}
    return beginnings == {"I"}


def _with_the_one_before(labels: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip([OUTSIDE, *labels], labels, strict=False))


def _begins(before: str, label: str) -> bool:
    """Tells whether an entity begins that does not follow one of its type at once."""
    return label != OUTSIDE and (before == OUTSIDE or before[1:] != label[1:])
