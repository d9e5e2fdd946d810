"""The documents of a pretraining text, with whose each is where a file beside the text says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from data_prep.common.errors import UserError
from data_prep.common.hashed_text import HashedText
from data_prep.common.own_files import PATIENTS_SUFFIX


class Document(NamedTuple):
    """A note as it stands in a text.

    Attributes:
      lines: its sentences, none empty.
      patient: whose it is; None where no file says it.
    """

    lines: list[str]
    patient: str | None


def patients_file(path: Path) -> Path:
    """Returns the file that may say whose the documents of a text are, a line for each."""
    return path.with_name(path.name + PATIENTS_SUFFIX)


def read_documents(
    path: Path, *, advance: Callable[[int], None] = lambda size: None
) -> Iterator[Document]:
    """Yields the documents of a text.

    Args:
      path: a sentence a line, a blank line between documents; gzip or not.
      advance: called after each document with the bytes, as stored, read since.

    Raises:
      UserError: a file cannot be read, or that of the patients has not a line for each document.
    """
    beside = patients_file(path)
    if not beside.exists():
        yield from (Document(lines, None) for lines in _documents(path, advance))
        return
    with HashedText(beside) as file:
        patients = file.lines()
        documents = known = 0
        for lines in _documents(path, advance):
            documents += 1
            patient = next(patients, "")
            if patient:
                known += 1
                yield Document(lines, patient)
        known += sum(map(bool, patients))
    if known != documents:
        raise UserError(
            f"{beside}: found {known} patients, but {path.name} has {documents} documents; "
            "expected a line for each of them, or no such file"
        )


def _documents(path: Path, advance: Callable[[int], None]) -> Iterator[list[str]]:
    document: list[str] = []
    reported = 0
    with HashedText(path) as file:
        for line in file.lines():
            if line:
                document.append(line)
            elif document:
                yield document
                document = []
                advance(file.bytes_read - reported)
                reported = file.bytes_read
        if document:
            yield document
        advance(file.bytes_read - reported)
