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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.common import atomic_files, same_run
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object, require_shape
from data_prep.common.own_files import FORMAT_NOTES_BEAM_FOLDER, FORMAT_NOTES_FOLDER
from data_prep.formatting.canaries import Planting
from data_prep.formatting.formatter import NoteToFormat
from data_prep.formatting.statistics import TextStatistics
from data_prep.formatting.text_files import Document, TextFile, TextFiles, require_text

_log = logging.getLogger(__name__)

FOLDER_NAME = FORMAT_NOTES_FOLDER
STAGING_NAME = FORMAT_NOTES_BEAM_FOLDER
"""The folder in which a runner of Beam keeps what is not complete."""

# Small enough that a kill loses seconds, large enough that an archive is some ten thousand files.
# The first are smaller, so that several workers share a small input evenly.
_NOTES_PER_SHARD = 256
_CHARACTERS_PER_SHARD = 512 * 1024
_CHARACTERS_OF_FIRST_SHARD = 32 * 1024
_CHARACTERS_MORE_IN_NEXT_SHARD = 8 * 1024

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
            advice = f"remove {self.path} to begin anew"
            before = read_json_object(settings_file, advice=advice)
            require_shape(before, same_run.SHAPE, str(settings_file), advice=advice)
            same_run.require_same_settings(
                before,
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

    def assemble(
        self, num_shards: int, planting: Planting, *, patients_files: bool
    ) -> tuple[list[TextFile], TextStatistics]:
        """Puts the work shards together; the text files appear when all of them are complete.

        A document goes to the file of its stem that its shard key chooses, in the order of the
        input; held-out notes go to one file.

        Args:
          num_shards: files for each category.
          planting: canaries for the training text.
          patients_files: whether a file beside each says whose its documents are.

        Returns:
          The files that stand there now, by name, and the counts of the whole.
        """
        statistics = TextStatistics()
        with TextFiles(self.path / _TEXT, self._output_dir, patients_files=patients_files) as files:
            for number in sorted(self._done):
                with self._done[number].open(encoding="utf-8", newline="\n") as lines:
                    statistics.add(TextStatistics.from_json(json.loads(next(lines))))
                    for line in lines:
                        files.add(Document(*json.loads(line)), num_shards)
            require_text(statistics)
            files.plant(planting)
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


def remove_staging(output_dir: Path) -> None:
    """Removes what a runner of Beam had not completed in an output folder, if there is any.

    The caller holds the output folder.
    """
    if (output_dir / STAGING_NAME).exists():
        shutil.rmtree(output_dir / STAGING_NAME)


def require_no_staging(output_dir: Path) -> None:
    """Refuses to go on beside what a runner of Beam has begun.

    Raises:
      UserError: there is such.
    """
    path = output_dir / STAGING_NAME
    if path.exists():
        raise UserError(
            f"{path} holds the unfinished work of a run with --runner; give the same flags with "
            f"--runner to go on, remove {path}, or choose another --output_dir"
        )


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
