"""What an extension follows from, besides the model and the text."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.common.settings_flags import setting

EXTEND_VOCAB = "extend_vocab"
"""The program, as a folder that it wrote names it."""

MEAN, RANDOM = "mean", "random"


@dataclass(frozen=True)
class ExtensionSettings:
    """Flags of extend_vocab, by their names."""

    num_new_entries: int = setting(
        1000, "How many entries to add, fewer if the text yields no more.", minimum=1
    )
    min_documents: int = setting(
        50,
        "A word of fewer patients plays no part, so that no patient's name becomes an entry. Where "
        "no <text>.patients says whose the documents are, documents are counted.",
        minimum=1,
    )
    fill_unused: bool = setting(
        False,
        "Put the entries that save most in the places of [unusedN], as far as there are such, "
        "before others are appended.",
    )
    new_rows: str = setting(
        MEAN,
        "How the embedding of an entry begins: as the mean of those of the WordPieces that spelt "
        "it, or drawn as in a new model. Its output bias likewise, or zero.",
        choices=(MEAN, RANDOM),
    )
    random_seed: int = setting(12345, "Of --new_rows=random.")
