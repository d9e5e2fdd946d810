"""Sentences of clinical text by rules, without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_prep.sentence_splitting import sentence_lines


class RuleSplitter:
    """Splits sections by `split_by_rules`."""

    @property
    def description(self) -> dict[str, str]:
        """Names and versions of what decides the sentences, for a manifest."""
        return {"sentence_splitter": "rules"}

    def split(self, sections: Sequence[str]) -> list[list[str]]:
        """Returns each section's sentences as they are written, one a line."""
        return [sentence_lines(split_by_rules(section)) for section in sections]


def split_by_rules(section: str) -> list[str]:
    """Returns the sentences of one section."""
    return re.split(r"(?<=[.?!])\s+(?=[A-Z\[])", section.strip())
