"""Small made-up tasks that a tiny model can learn, with a word planted that no program may show."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.golden_data import golden

PLANTED = "Quixzandorph"

# Words that the golden vocabulary holds whole, but "haemoptysis", which it holds in pieces.
_SYMPTOMS = ("pain", "fever", "pneumonia", "edema", "haemoptysis")
_TREATMENTS = ("Prednisone", "Metoprolol", "Oxycodone")
_SECOND = {"problem": "left", "treatment": "DAILY"}
_OTHERS = ("the", "patient", "were", "found", "this", "from", "admitted", "times", "year", "hours")


def from_checkpoint() -> dict[str, Any]:
    """Returns the flags that start from the golden checkpoint."""
    return {
        "init_checkpoint": golden("init"),
        "bert_config_file": golden("model/bert_config.json"),
        "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": False,
    }


def results_of(folder: Path) -> dict[str, Any]:
    """Returns what a program measured."""
    return json.loads((folder / "eval_results.json").read_text())


def entailment_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Returns pairs whose label follows from the second sentence."""
    rng = random.Random(seed)
    claims = {
        "entailment": "presents with fever .",
        "contradiction": "denies fever .",
        "neutral": "presents with compliance .",
    }
    rows = []
    for number in range(count):
        label = rng.choice(sorted(claims))
        words = rng.choices(_OTHERS, k=rng.randint(2, 5))
        rows.append(
            {
                "sentence1": " ".join([*words, PLANTED]),
                "pairID": f"pair-{seed}-{number}",
                "sentence2": claims[label],
                "gold_label": label,
            }
        )
    return rows


def write_mednli(folder: Path, *, train: int = 240, dev: int = 60, test: int = 40) -> None:
    """Writes the three files of MedNLI."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate((("train", train), ("dev", dev), ("test", test))):
        lines = [json.dumps(row) for row in entailment_rows(count, seed)]
        (folder / f"mli_{part}_v1.jsonl").write_text("\n".join(lines) + "\n")


def bio_sentence(rng: random.Random) -> list[tuple[str, str]]:
    """Returns words with labels: a symptom or treatment may go on in a second word."""
    words: list[tuple[str, str]] = []
    for _ in range(rng.randint(2, 6)):
        kind, names = rng.choice((("problem", _SYMPTOMS), ("treatment", _TREATMENTS), ("", ())))
        if kind:
            words.append((rng.choice(names), f"B-{kind}"))
            if rng.random() < 0.4:
                words.append((_SECOND[kind], f"I-{kind}"))
        words += [(word, "O") for word in rng.choices(_OTHERS, k=rng.randint(1, 3))]
    return words


def write_conll(folder: Path, *, train: int = 300, dev: int = 60, test: int = 30) -> None:
    """Writes train.tsv, dev.tsv and test.tsv."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate((("train", train), ("dev", dev), ("test", test))):
        rng = random.Random(seed)
        sentences = [[*bio_sentence(rng), (PLANTED, "O")] for _ in range(count)]
        text = "\n\n".join("\n".join(f"{w}\t{label}" for w, label in s) for s in sentences)
        (folder / f"{part}.tsv").write_text(text + "\n")
