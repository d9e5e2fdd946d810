"""The text files of a run of format_notes: their names, what stands in them, and how they grow."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.canaries.planting import count_documents
from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.own_files import PATIENTS_SUFFIX
from data_prep.common.patients import UNKNOWN, as_written
from data_prep.formatting.canaries import Planting
from data_prep.formatting.statistics import TextStatistics

HELD_OUT_SUFFIX = ".held_out"

_BUFFERED_CHARACTERS = 32 * 1024 * 1024
_NOT_IN_FILE_NAMES = re.compile(r"[\W_]+")


class Document(NamedTuple):
    """A note as it stands in a text file.

    Attributes:
      stem: the start of the file's name.
      shard_key: what decides to which of the stem's files it goes, see `shard_key`.
      text: its lines, with the blank one that ends it.
      patient: a hash, see `patients`.
    """

    stem: str
    shard_key: int
    text: str
    patient: int = UNKNOWN


class TextFile(NamedTuple):
    """A text file of the output, complete under its name, or the file of its patients."""

    name: str
    notes: int
    size_bytes: int
    sha256: str


class TextFiles:
    """Text files that grow side by side, however many, with one of them open at a time.

    Args:
      unfinished: a folder for them until they are complete, in the same file system.
      finished: the folder in which they appear then.
      patients_files: whether a file beside each says whose its documents are.
    """

    def __init__(self, unfinished: Path, finished: Path, *, patients_files: bool = False) -> None:
        self._patients_files = patients_files
        self._unfinished = unfinished
        self._finished = finished
        self._names: dict[str, list[str]] = {}
        self._pending: dict[str, list[str]] = {}
        self._pending_characters = 0
        self._notes: Counter[str] = Counter()
        self._hashes: dict[str, Any] = {}
        self._sizes: Counter[str] = Counter()
        # Of files that were written again.
        self._digests: dict[str, str] = {}

    def add(self, document: Document, num_shards: int) -> None:
        """Adds a document to the file of its stem that its shard key chooses."""
        stem = document.stem
        if stem not in self._names:
            self._names[stem] = file_names(stem, num_shards)
            self._pending.update((name, []) for name in self._names[stem])
            if self._patients_files:
                beside = [name + PATIENTS_SUFFIX for name in self._names[stem]]
                self._pending.update((name, []) for name in beside)
        names = self._names[stem]
        name = names[document.shard_key % len(names)]
        self._notes[name] += 1
        self._pending[name].append(document.text)
        self._pending_characters += len(document.text)
        if self._patients_files:
            # A note with a line of blanks, as the published rules write it, is read as two.
            parts = count_documents(document.text.encode().split(b"\n"))
            self._pending[name + PATIENTS_SUFFIX] += [f"{as_written(document.patient)}\n"] * parts
            self._notes[name + PATIENTS_SUFFIX] += parts
        if self._pending_characters >= _BUFFERED_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        for name, documents in self._pending.items():
            content = "".join(documents).encode()
            path = self._unfinished / name
            with atomic_files.naming(path), path.open("ab") as stream:
                stream.write(content)
            self._hashes.setdefault(name, hashlib.sha256()).update(content)
            self._sizes[name] += len(content)
            documents.clear()
        self._pending_characters = 0

    def plant(self, planting: Planting) -> None:
        """Plants canaries in the files of training text.

        Raises:
          UserError: there are too few documents.
        """
        self._flush()
        paths = {
            name: str(self._unfinished / name)
            for name in self._hashes
            if not (is_held_out_file(name) or name.endswith(PATIENTS_SUFFIX))
        }
        for name, file in planting.plant(paths, lambda path: f"{path}.planted").items():
            atomic_files.replace(Path(file.path), self._unfinished / name)
            self._digests[name], self._sizes[name] = file.sha256, file.size_bytes

    def commit(self) -> list[TextFile]:
        """Lets the files appear under their names, and returns them by name."""
        self._flush()
        for name in self._hashes:
            atomic_files.sync(self._unfinished / name)
        for name in self._hashes:
            atomic_files.replace(self._unfinished / name, self._finished / name)
        digests = {name: digest.hexdigest() for name, digest in self._hashes.items()}
        digests |= self._digests
        return [
            TextFile(name, self._notes[name], self._sizes[name], digests[name])
            for name in sorted(self._hashes)
        ]

    def __enter__(self) -> TextFiles:
        if self._unfinished.exists():
            shutil.rmtree(self._unfinished)
        self._unfinished.mkdir()
        return self

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self._unfinished)


def require_text(statistics: TextStatistics) -> None:
    """Refuses an output without text.

    Raises:
      UserError: no note gave any.
    """
    if not statistics.counts:
        raise UserError(
            "no note gave any text: sections or sentences were found in none; check the input and "
            "--section_rules"
        )


def to_document(lines_of_sections: Iterable[Iterable[str]]) -> str:
    """Returns a note as it stands in the file, with the blank line that ends it."""
    lines = [line for lines in lines_of_sections for line in lines]
    return "\n".join([*lines, "", ""])


def shard_key(text: str) -> int:
    """Returns a hash of a note's text, whose remainder by the number of files chooses its file.

    It follows from the text alone, so that a note goes to the same file in every run, whatever
    stands before it and whoever formats it.
    """
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def file_names(stem: str, num_shards: int) -> list[str]:
    """Returns the names of the text files of one stem."""
    if num_shards == 1 or stem.endswith(HELD_OUT_SUFFIX):
        return [f"{stem}.txt"]
    return [f"{stem}-{shard:05d}-of-{num_shards:05d}.txt" for shard in range(num_shards)]


def is_held_out_file(name: str) -> bool:
    """Tells whether a file of `file_names` holds notes of held-out patients."""
    return name.endswith(f"{HELD_OUT_SUFFIX}.txt")


def file_stem(category: str) -> str:
    """Returns the start of a category's file name: `Nursing/other` becomes `nursing_other`."""
    return _NOT_IN_FILE_NAMES.sub("_", category.strip().lower())
