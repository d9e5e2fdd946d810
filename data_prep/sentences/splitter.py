"""Sections to sentences: what a splitter is, and how to get one."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from data_prep.common.imports import without

SPLITTERS = ("spacy", "rules")

# spaCy imports these with whatever model, where they are installed.
_PLUGINS_BY_PYTORCH = ("spacy_transformers", "spacy_curated_transformers")
# What a model was trained with does not matter.
_BY_PYTORCH = re.compile(r"^(?!gpu_allocator\b).*(torch|transformer)", re.IGNORECASE | re.MULTILINE)


class SentenceSplitter(Protocol):
    """Splits sections into sentences. Not to be shared between threads."""

    @property
    def description(self) -> dict[str, str]:
        """Names and versions of what decides the sentences, for a manifest."""
        ...

    def split(self, sections: Sequence[str]) -> list[list[str]]:
        """Returns each section's sentences as they are written, one a line.

        A sentence holds no line end (each became a space) and is not blank, except as published.
        The answer for a section depends on that section alone, not on the others or on earlier
        calls.
        """
        ...


def load_splitter(
    splitter: str, spacy_model: str, *, as_published: bool = False
) -> SentenceSplitter:
    """Returns the splitter of that name, ready for use.

    Args:
      splitter: "spacy", the original's way, or "rules", without a model.
      spacy_model: name of an installed spaCy model, or the path of one; only for "spacy".
      as_published: write the sentences of "spacy" as the original does, those of white space alone
        included; see `sentence_lines`.

    Raises:
      ValueError: there is no such splitter.
      UserError: the model is not installed, is broken or has neither a parser nor a senter.
    """
    if splitter == "spacy":
        # spaCy imports PyTorch where it is installed: two seconds and 450 MB for each worker.
        with nullcontext() if _computes_by_pytorch(spacy_model) else without("torch"):
            from data_prep.sentences.spacy_splitter import SpacySplitter

        return SpacySplitter(spacy_model, as_published=as_published)
    if splitter == "rules":
        from data_prep.sentences.rules import RuleSplitter

        return RuleSplitter()
    raise ValueError(f"sentence splitter {splitter!r} is not known; expected one of {SPLITTERS}")


def _computes_by_pytorch(spacy_model: str) -> bool:
    """Tells whether a part of a spaCy model, or a plugin, is a transformer or else by PyTorch."""
    if any(importlib.util.find_spec(name) is not None for name in _PLUGINS_BY_PYTORCH):
        return True
    configs = [Path(spacy_model, "config.cfg")]
    if spacy_model.isidentifier():
        found = importlib.util.find_spec(spacy_model)
        for folder in (found.submodule_search_locations or ()) if found is not None else ():
            configs += Path(folder).glob("*/config.cfg")
    return any(
        _BY_PYTORCH.search(path.read_text(encoding="utf-8", errors="replace"))
        for path in configs
        if path.is_file()
    )
