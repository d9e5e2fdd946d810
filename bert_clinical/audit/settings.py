"""What an audit follows from, besides the model and the files."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.common.settings_flags import setting


@dataclass(frozen=True)
class AuditSettings:
    """Flags of audit_memorization, by their names."""

    max_seq_length: int = setting(
        128, "WordPieces of a window of a note, special ones included.", minimum=8
    )
    max_notes: int = setting(
        1000, "Most notes of --member_file and of --non_member_file; the seed chooses.", minimum=10
    )
    random_seed: int = setting(
        12345, "Of the notes, of what is masked together, and of the intervals."
    )
    batch_size: int = setting(
        32, "Windows computed at once, of shorter sequences more; for a GPU some hundred.",
        minimum=1,
    )  # fmt: skip
