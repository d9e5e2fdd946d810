"""Where canaries go in a text, and the text with them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from data_prep.canaries.canary import Canary
from data_prep.common.errors import UserError


class Place(NamedTuple):
    """A sentence for a document, and where: 0 for before its first line, 1 for after its last."""

    share: float
    sentence: str


Plan = Mapping[int, Sequence[Place]]
"""Number of a document in its file, from 0 → what is planted there."""


def plan(canaries: Iterable[Canary], documents: Mapping[str, int], seed: int) -> dict[str, Plan]:
    """Returns what goes where.

    Each repetition of a canary gets a document of its own, and as long as there are documents
    enough, no document gets two sentences.

    Args:
      canaries: those to plant, and controls.
      documents: file → how many documents it holds.
      seed: the same one gives the same plan.

    Raises:
      UserError: a canary is to be planted more often than there are documents.
    """
    names = sorted(documents)
    total = sum(documents.values())
    planted = [canary for canary in canaries for _ in range(canary.repetitions)]
    require_enough(planted, total)
    rng = random.Random(f"places {seed}")
    order = rng.sample(range(total), min(total, len(planted)))
    plans: dict[str, dict[int, list[Place]]] = {name: {} for name in names}
    for index, canary in enumerate(planted):
        name, number = _document(order[index % len(order)], names, documents)
        plans[name].setdefault(number, []).append(Place(rng.random(), canary.text))
    return dict(plans)


def require_enough(canaries: Iterable[Canary], documents: int) -> None:
    """Raises `UserError` if a canary is to be planted more often than there are documents."""
    most = max((canary.repetitions for canary in canaries), default=0)
    if most > documents:
        raise UserError(
            f"a canary is to be planted in {most} documents, but the text has {documents}; give "
            "more text or lower --repetitions"
        )


def sentences_of(plan: Plan) -> int:
    """Returns how many sentences a file gets."""
    return sum(map(len, plan.values()))


def _document(number: int, names: Sequence[str], documents: Mapping[str, int]) -> tuple[str, int]:
    """Returns the file of a document, and its number there."""
    for name in names:
        if number < documents[name]:
            return name, number
        number -= documents[name]
    raise IndexError(number)


def is_blank(line: bytes) -> bool:
    """Tells whether a line ends a document."""
    return not line.decode(errors="replace").strip()


def count_documents(lines: Iterable[bytes]) -> int:
    """Returns how many documents a text has: runs of lines that are not blank."""
    documents = 0
    before = True
    for line in lines:
        now = is_blank(line)
        documents += before and not now
        before = now
    return documents


def planted(lines: Iterable[bytes], plan: Plan) -> Iterator[bytes]:
    """Yields the lines of a text with those of its plan, and changes no other byte.

    Args:
      lines: with their line ends.
      plan: of this file.
    """
    number = -1
    document: list[bytes] = []
    inside = False
    for line in lines:
        blank = is_blank(line)
        if not blank and not inside:
            number += 1
        if inside and blank and document:
            yield from _with_sentences(document, plan[number])
            document = []
        inside = not blank
        if inside and number in plan:
            document.append(line)
        else:
            yield line
    if document:
        yield from _with_sentences(document, plan[number])


def _with_sentences(document: Sequence[bytes], places: Sequence[Place]) -> Iterator[bytes]:
    before: dict[int, list[str]] = {}
    for place in sorted(places):
        before.setdefault(int(place.share * (len(document) + 1)), []).append(place.sentence)
    for number, line in enumerate([*document, b""]):
        for sentence in before.get(number, ()):
            yield sentence.encode() + b"\n"
        if line:
            # Only the last line of a file may lack its end.
            yield line if line.endswith(b"\n") or len(document) not in before else line + b"\n"
