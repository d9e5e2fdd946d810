"""Plants canaries in text files that are whole but not yet under their names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.canaries import record
from data_prep.canaries.canary import (
    Canaries,
    CanarySettings,
    draw_canaries,
    require_no_others,
    write_canaries,
)
from data_prep.canaries.planting import (
    count_documents,
    plan,
    planted,
    require_enough,
    sentences_of,
)
from data_prep.common import files


class Planting:
    """The canaries of a run of format_notes.

    Args:
      settings: what they follow from; None for a run without canaries, which plants none.
      canaries_file: what is to know them; a file of this machine.
    """

    def __init__(self, settings: CanarySettings | None, canaries_file: Path | None) -> None:
        self._canaries = None if settings is None else draw_canaries(settings)
        self._seed = 0 if settings is None else settings.random_seed
        self._file = canaries_file
        self._sentences: dict[str, int] = {}

    def require_enough(self, notes: int) -> None:
        """Checks before the work begins that the canaries can be planted and written.

        Raises:
          UserError: there cannot be documents enough, or the file holds other canaries.
        """
        if self._canaries is not None:
            require_enough(self._canaries.canaries, notes)
            self._require_no_others()

    def plant(
        self, paths: Mapping[str, str], new_path: Callable[[str], str]
    ) -> dict[str, PlantedFile]:
        """Plants in texts, and writes the file that knows what; see `plant_in_files`."""
        if self._canaries is None:
            return {}
        found = plant_in_files(self._canaries, self._seed, paths, new_path)
        self._sentences = {name: file.sentences for name, file in found.items()}
        self._write_file()
        return found

    def restore_file(self) -> None:
        """Writes the file again if it is lost: the canaries follow from the flags.

        Raises:
          UserError: it holds other canaries.
        """
        self._require_no_others()
        if self._file is not None and not self._file.exists():
            self._write_file()

    def told(self) -> dict[str, dict[str, Any]]:
        """Returns what a manifest says of the texts, by name."""
        return {
            name: record.summary(self._canaries, sentences)
            for name, sentences in self._sentences.items()
            if self._canaries is not None and sentences
        }

    def _require_no_others(self) -> None:
        if self._canaries is not None and self._file is not None:
            require_no_others(self._file, self._canaries)

    def _write_file(self) -> None:
        if self._canaries is not None and self._file is not None:
            write_canaries(self._file, self._canaries)


class PlantedFile(NamedTuple):
    """A text with canaries.

    Attributes:
      path: where it lies now.
      size_bytes: of it.
      sha256: of its bytes.
      sentences: how many were planted.
    """

    path: str
    size_bytes: int
    sha256: str
    sentences: int


def plant_in_files(
    canaries: Canaries, seed: int, paths: Mapping[str, str], new_path: Callable[[str], str]
) -> dict[str, PlantedFile]:
    """Writes each text again with what is planted in it.

    What is planted where follows from the names and the texts, not from who made them.

    Args:
      canaries: those to plant.
      seed: of the places.
      paths: name of a text → where it lies.
      new_path: from where it lies, where the text with canaries is to lie.

    Raises:
      UserError: a canary is to be planted more often than there are documents.
    """
    documents = {}
    for name, path in paths.items():
        with files.open_binary(path) as lines:
            documents[name] = count_documents(lines)
    found = {}
    for name, places in plan(canaries.canaries, documents, seed).items():
        target = new_path(paths[name])
        digest = hashlib.sha256()
        size = 0
        with files.open_binary(paths[name]) as lines, files.create(target) as stream:
            for line in planted(lines, places):
                stream.write(line)
                digest.update(line)
                size += len(line)
        found[name] = PlantedFile(target, size, digest.hexdigest(), sentences_of(places))
    return found
