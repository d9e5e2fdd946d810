"""The flags that shape the examples, and what they may be. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data_prep.common.errors import UsageError

# [CLS], [SEP], [SEP] and a WordPiece for each sentence.
SHORTEST_SEQUENCE = 5
_UINT16_NUMBERS = 1 << 16


@dataclass(frozen=True)
class InstanceSettings:
    """Google's flags that shape the instances.

    Attributes:
      max_seq_length: WordPieces in a sequence, special tokens included.
      max_predictions_per_seq: masked WordPieces in a sequence.
      random_seed: of `random.Random`.
      dupe_factor: how often every document is gone through, masked anew.
      masked_lm_prob: share of the WordPieces of a sequence that is masked.
      short_seq_prob: share of the passes over a document with a shorter target length.
      do_whole_word_mask: masks all pieces of a word or none.
    """

    max_seq_length: int = 128
    max_predictions_per_seq: int = 20
    random_seed: int = 12345
    dupe_factor: int = 10
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    do_whole_word_mask: bool = False

    def require_valid(self) -> None:
        """Refuses what Google's program would crash on, and what has no meaning.

        Raises:
          UsageError: names the flag, what it is and what it can be.
        """
        for name, smallest in (
            ("max_seq_length", SHORTEST_SEQUENCE),
            ("max_predictions_per_seq", 1),
            ("dupe_factor", 1),
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
