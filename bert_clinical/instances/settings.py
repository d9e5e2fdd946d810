"""The flags that shape the examples, and what they may be. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data_prep.common.errors import UsageError
from data_prep.common.settings_flags import setting

# [CLS], [SEP], [SEP] and a WordPiece for each sentence.
SHORTEST_SEQUENCE = 5
_UINT16_NUMBERS = 1 << 16


@dataclass(frozen=True)
class InstanceSettings:
    """Google's flags that shape the instances; their helps say what each is."""

    do_whole_word_mask: bool = setting(False, "Mask whole words rather than single WordPieces.")
    max_seq_length: int = setting(
        128,
        "WordPieces in a sequence. Several lengths, as 128,512, are made in one pass over the "
        "text, each as a run of its own would make it; they need as many "
        "--max_predictions_per_seq and --output_dir.",
        listed=True,
    )
    max_predictions_per_seq: int = setting(
        20, "The most WordPieces that are masked in a sequence; one for each length.", listed=True
    )
    random_seed: int = setting(12345, "Seed of all random choices.")
    dupe_factor: int = setting(
        10, "How many times the text is gone through, masked differently each time."
    )
    masked_lm_prob: float = setting(0.15, "Share of a sequence's WordPieces that is masked.")
    short_seq_prob: float = setting(
        0.1, "Probability of making shorter sequences out of a document."
    )

    def require_valid(self) -> None:
        """Refuses what Google's program would crash on, and what has no meaning.

        Raises:
          UsageError: names the flag, what it is and what it can be.
        """
        for name, smallest in (
            ("max_seq_length", SHORTEST_SEQUENCE),
            ("max_predictions_per_seq", 0),
            ("dupe_factor", 0),
        ):
            value = getattr(self, name)
            if value < smallest:
                raise UsageError(f"--{name} is {value}; it must be at least {smallest}")
        for name in ("masked_lm_prob", "short_seq_prob"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"--{name} is {value}; a probability is between 0 and 1")

    def typecode(self, vocab: Mapping[str, int]) -> str:
        """Returns the `array` typecode that holds every id and every length: "H" or "I"."""
        largest = max(max(vocab.values()) + 1, self.max_seq_length + 1)
        return "H" if largest <= _UINT16_NUMBERS else "I"
