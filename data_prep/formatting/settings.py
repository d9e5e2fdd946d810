"""What the text of a run of format_notes follows from, whoever does the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.common.errors import UserError
from data_prep.formatting import manifest
from data_prep.formatting.formatter import HELD_OUT_SUFFIX, NoteFormatter, file_names
from data_prep.formatting.selection import NoteSelection, file_stems, is_all
from data_prep.notes.csv_source import ColumnNames


@dataclass(frozen=True)
class FormatSettings:
    """The flags of format_notes that decide its output, by their names.

    `columns` stands for the flags that name columns.
    """

    columns: ColumnNames
    category: str
    skip_bad_rows: bool
    deduplicate: str
    near_duplicate_threshold: float
    held_out_fraction: float
    section_rules: str
    sentence_splitter: str
    spacy_model: str
    num_shards: int

    def flags(self) -> dict[str, Any]:
        """Returns the flags as they stand in the manifest; those without effect are None."""
        near = self.deduplicate == "near"
        spacy = self.sentence_splitter == "spacy"
        return {
            "category": self.category,
            "text_column": self.columns.text,
            "category_column": self.columns.category,
            "id_column": self.columns.row_id,
            "subject_column": self.columns.subject_id,
            "skip_bad_rows": self.skip_bad_rows,
            "deduplicate": self.deduplicate,
            "near_duplicate_threshold": self.near_duplicate_threshold if near else None,
            "held_out_fraction": self.held_out_fraction,
            "section_rules": self.section_rules,
            "sentence_splitter": self.sentence_splitter,
            "spacy_model": Path(self.spacy_model).name if spacy else None,
            "num_shards": self.num_shards,
        }

    def described(
        self, inputs: Sequence[Mapping[str, Any]], versions: Mapping[str, str]
    ) -> dict[str, Any]:
        """Returns what a manifest begins with: what the output follows from."""
        return {"flags": self.flags(), "inputs": list(inputs), "versions": dict(versions)}

    def versions(self, splitter: Mapping[str, str]) -> dict[str, str]:
        """Returns the versions that decide the output, `splitter` being those of the splitter."""
        return manifest.versions(splitter, self.deduplicate)

    def make_formatter(self) -> NoteFormatter:
        """Returns what makes text of notes.

        Raises:
          UserError: the spaCy model cannot be loaded.
        """
        return NoteFormatter(
            section_rules=self.section_rules,
            sentence_splitter=self.sentence_splitter,
            spacy_model=self.spacy_model,
        )

    def make_selection(
        self, categories: Sequence[str], is_duplicate: Callable[[str], bool] | None
    ) -> NoteSelection:
        """Returns what takes the notes of the chosen categories.

        Args:
          categories: the chosen ones.
          is_duplicate: called with each text in order; whether it repeats one before it.
        """
        return NoteSelection(
            categories,
            held_out_fraction=self.held_out_fraction,
            is_duplicate=is_duplicate,
            skip_bad_rows=self.skip_bad_rows,
            takes_others=is_all(self.category),
        )

    def require_free_names(
        self, output_dir: str, categories: Sequence[str], exists: Callable[[str], bool]
    ) -> None:
        """Refuses to write over files that no manifest claims.

        Args:
          output_dir: for the message.
          categories: those that are chosen.
          exists: whether a file of this name stands in the output folder.

        Raises:
          UserError: one does.
        """
        for stem in file_stems(categories):
            for name in (
                *file_names(stem, self.num_shards),
                *file_names(stem + HELD_OUT_SUFFIX, self.num_shards),
            ):
                if exists(name):
                    raise UserError(
                        f"{output_dir.rstrip('/')}/{name} exists and no manifest says that this "
                        "program made it; move it away, or choose another --output_dir"
                    )
