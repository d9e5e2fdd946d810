"""What the text of a run of format_notes follows from, whoever does the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.canaries.canary import CanarySettings
from data_prep.common.errors import UserError
from data_prep.common.own_files import PATIENTS_SUFFIX
from data_prep.common.settings_flags import setting
from data_prep.formatting import manifest
from data_prep.formatting.canaries import Planting
from data_prep.formatting.formatter import NoteFormatter
from data_prep.formatting.selection import NoteSelection, file_stems, is_all
from data_prep.formatting.text_files import HELD_OUT_SUFFIX, file_names
from data_prep.notes.rows import ColumnNames


@dataclass(frozen=True)
class FormatSettings:
    """The flags of format_notes that decide its output, by their names.

    `columns` stands for the flags that name columns.
    """

    columns: ColumnNames
    category: str = setting(
        "Discharge summary",
        "Categories, comma-separated, or 'all'; compared stripped and without regard to case. "
        "With 'all', values that do not look like names of categories (neither usual nor shared "
        "by 20 patients) go to other_categories.txt.",
    )
    skip_bad_rows: bool = setting(
        False,
        "Count rows that cannot be read in the manifest and go on, rather than end with an error. "
        "After a row whose quotes do not match up a CSV is read on only where a row certainly "
        "starts.",
    )
    deduplicate: str = setting(
        "none",
        "Leave out notes whose text equals that of an earlier one, white space and case aside "
        "(exact), or whose words mostly do (near).",
        choices=("none", "exact", "near"),
    )
    near_duplicate_threshold: float = setting(
        0.8,
        "For --deduplicate=near: the share of word shingles in common (Jaccard similarity) from "
        "which on the later note is left out.",
        minimum=0.1,
        maximum=1.0,
    )
    held_out_fraction: float = setting(
        0.0,
        "This share of the patients goes to <category>.held_out.txt, for run_pretraining's "
        "--eval_input_file. It is the same patients in every run.",
        minimum=0.0,
        maximum=1.0,
    )
    section_rules: str = setting(
        "fixed",
        "'published' gives the sections of the original program, with the text that it loses; "
        "'fixed' loses nothing.",
        choices=("fixed", "published"),
    )
    sentence_splitter: str = setting(
        "spacy",
        "'spacy' is the original's way with the parser of --spacy_model; 'rules' needs no model "
        "and is many times as fast.",
        choices=("spacy", "rules"),
    )
    spacy_model: str = setting(
        "en_core_sci_md", "An installed spaCy model, or a folder that holds one."
    )
    num_shards: int = setting(
        1,
        "Write each category as N files, <category>-00000-of-0000N.txt and so on. A hash of "
        "its text decides to which a note goes.",
        minimum=1,
        maximum=99999,
    )

    patients_files: bool = setting(
        False,
        "Write <text>.patients beside each text: for each document a line with a hash of its "
        "patient's id, by which audit_memorization compares patients. Not with --runner.",
    )
    canaries: CanarySettings | None = None

    def planting(self, canaries_file: Path | None) -> Planting:
        """Returns what plants the canaries, if there are to be any.

        Raises:
          UsageError: there cannot be such canaries.
        """
        return Planting(self.canaries, canaries_file)

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
            **({"patients_files": True} if self.patients_files else {}),
            **({} if self.canaries is None else asdict(self.canaries)),
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
                beside = name + PATIENTS_SUFFIX
                if exists(name) or (self.patients_files and exists(beside)):
                    raise UserError(
                        f"{output_dir.rstrip('/')}/{name} exists and no manifest says that this "
                        "program made it; move it away, or choose another --output_dir"
                    )
