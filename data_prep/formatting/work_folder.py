"""Finished batches of a run, kept beside its output until the whole is complete.

A run is cut into work shards of a few hundred notes each. Each is written as a file of its own in a
work folder, complete or not at all; at the end they are put together as the output's text files.
A run that was killed finds the work shards that were done and makes only the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.formatting.formatter import Document, NoteToFormat, file_names
from data_prep.formatting.statistics import TextStatistics

_log = logging.getLogger(__name__)

FOLDER_NAME = "format_notes.work"

# Small enough that a kill loses seconds, large enough that an archive is some ten thousand files.
# The first are smaller, so that several workers share a small input evenly.
_NOTES_PER_SHARD = 256
_CHARACTERS_PER_SHARD = 512 * 1024
_CHARACTERS_OF_FIRST_SHARD = 32 * 1024
_CHARACTERS_MORE_IN_NEXT_SHARD = 8 * 1024
_BUFFERED_CHARACTERS = 32 * 1024 * 1024

_SETTINGS = "settings.json"
_ASSEMBLING = "assembling"
# Its number, the digest of its notes, and that of what was made of them.
_SHARD_NAME = re.compile(r"shard-(\d{6,})-[0-9a-f]{32}-[0-9a-f]{32}\.jsonl")
_TEXT = "text"


class WorkShard(NamedTuple):
    """Consecutive notes, the number of the shard and of its first note, and their digest."""

    number: int
    first_note: int
    digest: str
    notes: list[NoteToFormat]

    @property
    def name(self) -> str:
        """How errors call it."""
        last = self.first_note + len(self.notes) - 1
        return f"work shard {self.number} (notes {self.first_note} to {last})"


class TextFile(NamedTuple):
    """A text file of the output, complete under its name."""

    name: str
    notes: int
    size_bytes: int
    sha256: str


def cut(notes: Iterable[NoteToFormat]) -> Iterator[WorkShard]:
    """Cuts notes into work shards, in order and always at the same places."""
    batch: list[NoteToFormat] = []
    characters = number = 0
    first_note = 1
    for note in notes:
        batch.append(note)
        characters += len(note.text)
        if is_enough(number, len(batch), characters):
            yield WorkShard(number, first_note, _digest(batch), batch)
            first_note += len(batch)
            number += 1
            characters, batch = 0, []
    if batch:
        yield WorkShard(number, first_note, _digest(batch), batch)


def is_enough(number: int, notes: int, size: int) -> bool:
    """Returns whether a piece of the work is large enough.

    Args:
      number: of the piece.
      notes: in it so far.
      size: characters in it so far.
    """
    enough = _CHARACTERS_OF_FIRST_SHARD + number * _CHARACTERS_MORE_IN_NEXT_SHARD
    return notes >= _NOTES_PER_SHARD or size >= min(enough, _CHARACTERS_PER_SHARD)


class WorkFolder:
    """The work shards of a run.

    Args:
      output_dir: where the output goes; the folder is made within it.
      settings: everything that the output follows from.

    Raises:
      UserError: the folder holds the shards of a run with other settings.
    """

    def __init__(self, output_dir: Path, settings: Mapping[str, Any]) -> None:
        self._output_dir = output_dir
        self.path = output_dir / FOLDER_NAME
        settings_file = self.path / _SETTINGS
        if settings_file.exists():
            require_same_settings(
                read_json_object(settings_file, advice=f"remove {self.path} to begin anew"),
                settings,
                f"{self.path} holds the unfinished work of a run with other settings",
                f"give the same flags to go on, remove {self.path}, or choose another --output_dir",
            )
        else:
            # Whatever a killed run made before its settings, or had still to remove after them.
            remove_unfinished(output_dir)
            self.path.mkdir()
            atomic_files.write_json(settings_file, settings)
        self._done = {
            int(match[1]): file
            for file in sorted(self.path.iterdir())
            if (match := _SHARD_NAME.fullmatch(file.name))
        }

    @property
    def done(self) -> int:
        """How many work shards are done."""
        return len(self._done)

    @property
    def is_assembling(self) -> bool:
        """Whether the output's files have begun to appear."""
        return (self.path / _ASSEMBLING).exists()

    def has(self, shard: WorkShard) -> bool:
        """Returns whether a work shard is done and is still what was written.

        Raises:
          UserError: it was made of other notes than it is to be made of now.
        """
        if shard.number not in self._done:
            return False
        path = self._done[shard.number]
        if not path.name.startswith(_name_start(shard)):
            raise UserError(
                f"the notes of {shard.name} are others than when {self.path} was made; expected an "
                f"unchanged source in an unchanged order; remove {self.path} to begin anew"
            )
        if path.name != _file_name(shard, path.read_bytes()):
            _log.warning("%s is not what was written there; it is made again", path)
            path.unlink()
            del self._done[shard.number]
            return False
        return True

    def write(self, shard: WorkShard, content: bytes) -> None:
        """Keeps what a work shard became, under a name that vouches for it."""
        path = self.path / _file_name(shard, content)
        with atomic_files.atomic_write(path) as stream:
            stream.write(content)
        self._done[shard.number] = path

    def assemble(self, num_shards: int) -> tuple[list[TextFile], TextStatistics]:
        """Puts the work shards together; the text files appear when all of them are complete.

        A document goes to the file of its stem that its shard key chooses, in the order of the
        input; held-out notes go to one file.

        Returns:
          The files that stand there now, by name, and the counts of the whole.
        """
        statistics = TextStatistics()
        with _TextFiles(self.path / _TEXT, self._output_dir) as files:
            for number in sorted(self._done):
                with self._done[number].open(encoding="utf-8", newline="\n") as lines:
                    statistics.add(TextStatistics.from_json(json.loads(next(lines))))
                    for line in lines:
                        files.add(Document(*json.loads(line)), num_shards)
            require_text(statistics)
            (self.path / _ASSEMBLING).touch()
            return files.commit(), statistics

    def remove(self) -> None:
        """Removes the folder; to be called when the output is complete."""
        remove_unfinished(self._output_dir)


def remove_unfinished(output_dir: Path) -> None:
    """Removes the work folder that lies in an output folder, if there is one.

    The caller holds the output folder.
    """
    path = output_dir / FOLDER_NAME
    if not path.exists():
        return
    # First, so that what a kill leaves of the rest is taken for no run's.
    (path / _SETTINGS).unlink(missing_ok=True)
    atomic_files.sync(path)
    shutil.rmtree(path)


class _TextFiles:
    """Text files that grow side by side, however many, with one of them open at a time.

    Args:
      unfinished: a folder for them until they are complete, in the same file system.
      finished: the folder in which they appear then.
    """

    def __init__(self, unfinished: Path, finished: Path) -> None:
        self._unfinished = unfinished
        self._finished = finished
        self._names: dict[str, list[str]] = {}
        self._pending: dict[str, list[str]] = {}
        self._pending_characters = 0
        self._notes: Counter[str] = Counter()
        self._hashes: dict[str, Any] = {}
        self._sizes: Counter[str] = Counter()

    def add(self, document: Document, num_shards: int) -> None:
        stem = document.stem
        if stem not in self._names:
            self._names[stem] = file_names(stem, num_shards)
            self._pending.update((name, []) for name in self._names[stem])
        names = self._names[stem]
        name = names[document.shard_key % len(names)]
        self._notes[name] += 1
        self._pending[name].append(document.text)
        self._pending_characters += len(document.text)
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

    def commit(self) -> list[TextFile]:
        self._flush()
        for name in self._hashes:
            atomic_files.sync(self._unfinished / name)
        for name in self._hashes:
            atomic_files.replace(self._unfinished / name, self._finished / name)
        return [
            TextFile(name, self._notes[name], self._sizes[name], self._hashes[name].hexdigest())
            for name in sorted(self._hashes)
        ]

    def __enter__(self) -> _TextFiles:
        if self._unfinished.exists():
            shutil.rmtree(self._unfinished)
        self._unfinished.mkdir()
        return self

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self._unfinished)


def require_same_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], found: str, advice: str
) -> None:
    """Compares the settings of two runs.

    Raises:
      UserError: they differ; says in what.
    """
    differences = []
    for kind, prefix in (("flags", "--"), ("versions", "the version of ")):
        old, new = before.get(kind, {}), now[kind]
        differences += [
            f"{prefix}{name} was {old.get(name)}, is {new.get(name)}"
            for name in [*old, *(name for name in new if name not in old)]
            if old.get(name) != new.get(name)
        ]
    if before.get("inputs") != now["inputs"]:
        old_names, new_names = (
            ", ".join(str(i.get("name")) for i in inputs)
            for inputs in (before.get("inputs", []), now["inputs"])
        )
        changed = "has changed" if old_names == new_names else f"was {old_names}, is {new_names}"
        differences.append(f"the input {changed}")
    if differences:
        raise UserError(f"{found}: {'; '.join(differences)}; {advice}")


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


def make_folder(output_dir: Path) -> None:
    """Makes the output folder if it does not exist.

    Raises:
      UserError: a file is in its way.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"--output_dir: {output_dir} is a file or lies below one; a folder was expected"
        ) from None


def _file_name(shard: WorkShard, content: bytes) -> str:
    return f"{_name_start(shard)}{hashlib.blake2b(content, digest_size=16).hexdigest()}.jsonl"


def _name_start(shard: WorkShard) -> str:
    return f"shard-{shard.number:06d}-{shard.digest}-"


def _digest(notes: Sequence[NoteToFormat]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for note in notes:
        text = note.text.encode(errors="surrogatepass")
        head = f"{note.category}\0{note.held_out}\0{note.patient}\0{len(text)}\0"
        digest.update(head.encode())
        digest.update(text)
    return digest.hexdigest()
