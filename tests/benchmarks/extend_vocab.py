"""Speed and memory of extend_vocab's counting and choosing, as a table.

    python -m tests.benchmarks.extend_vocab [--words 15000000] [--rare 0.03] [--vocab_file FILE]

The text is made of the golden sentences again and again, with made-up words among them: of all
words the share --rare is drawn from three million, so that most of these stand there once or twice.
Documents have 5,000 patients. Times are of the processor, which other work on the machine does not
change much; memory is the process's largest, before and after.
"""

from __future__ import annotations

import argparse
import random
import resource
import string
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bert_clinical.extension.selection import choose_entries
from bert_clinical.extension.text_sizes import measure, total
from bert_clinical.extension.word_counts import count_words
from bert_clinical.tokenization import load_vocab
from tests.golden_data import golden

RARE_WORDS = 3_000_000
PATIENTS = 5_000
LIMIT = 50


def rare_word(number: int) -> str:
    draw = random.Random(number)
    return "".join(draw.choices(string.ascii_lowercase, k=draw.randint(4, 11)))


def make_text(path: Path, words: int, rare: float) -> None:
    """Writes a text with whose its documents are."""
    sentences = golden("sentences_en_core_web_sm.txt").read_text().split("\n\n")
    documents = [document.split() for document in sentences if document.strip()]
    draw = random.Random(1)
    with path.open("w") as text, Path(f"{path}.patients").open("w") as patients:
        while words > 0:
            document = list(draw.choice(documents))
            for _ in range(round(rare * len(document)) or draw.random() < rare * len(document)):
                document[draw.randrange(len(document))] = rare_word(draw.randrange(RARE_WORDS))
            text.write(" ".join(document) + "\n\n")
            patients.write(f"p{draw.randrange(PATIENTS)}\n")
            words -= len(document)


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rows(path: Path, small: Path, vocab_file: Path) -> Sequence[tuple[str, str]]:
    """Returns what was measured, by what it is."""
    count_words([small], do_lower_case=False, most_carriers=LIMIT)
    before, start = memory(), time.process_time()
    counts = count_words([path], do_lower_case=False, most_carriers=LIMIT)
    counting = time.process_time() - start
    totals = counts.totals()
    often = {
        word: int(times)
        for word, times, carriers in zip(counts.words, totals, counts.carriers, strict=True)
        if carriers >= LIMIT
    }
    vocab, start = load_vocab(vocab_file), time.process_time()
    entries = choose_entries(often, vocab, 1000)
    choosing, start = time.process_time() - start, time.process_time()
    new = {**vocab, **{entry.text: len(vocab) + n for n, entry in enumerate(entries)}}
    change = total(measure(counts, vocab, new).values())
    measuring = time.process_time() - start
    words = int(totals.sum())
    return [
        ("words, different ones", f"{words:,}, {len(counts.words):,}"),
        ("counted a second", f"{words / counting / 1e6:.2f} million words"),
        ("memory before and after", f"{before:.0f} MB, {memory():.0f} MB"),
        (f"choosing {len(entries):,} entries among {len(often):,} words", f"{choosing:.1f} s"),
        ("counting WordPieces before and after", f"{measuring:.1f} s"),
        ("WordPieces a word", f"{change.before.per_word():.3f}, {change.after.per_word():.3f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--words", type=int, default=15_000_000)
    parser.add_argument("--rare", type=float, default=0.03)
    parser.add_argument("--vocab_file", type=Path, default=golden("vocab_cased.txt"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "text.txt", Path(folder) / "small.txt"
        make_text(small, 1000, 0.0)
        make_text(path, options.words, options.rare)
        print("| what | measured |\n|---|---|")
        for name, value in rows(path, small, options.vocab_file):
            print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
