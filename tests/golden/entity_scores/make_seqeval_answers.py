"""Writes seqeval.json beside this file; run with seqeval 1.2.2 installed."""

import json
import random
from pathlib import Path

from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

KINDS = (("-problem", "-test", "-LOCATION-OTHER"), ("-a",), ("",))

rng = random.Random(7)
cases = []
for number in range(60):
    labels = ["O", *(mark + kind for kind in KINDS[number % 3] for mark in "BI")]
    true, predicted = [], []
    for _ in range(rng.randint(1, 6)):
        weights = [rng.choice([1, 4])] + [1] * (len(labels) - 1)
        words = rng.choices(labels, weights=weights, k=rng.randint(1, 13))
        true.append(words)
        predicted.append([w if rng.random() < 0.8 else rng.choice(labels) for w in words])
    micro = precision_recall_fscore_support(true, predicted, average="micro", zero_division=0)
    each = precision_recall_fscore_support(true, predicted, average=None, zero_division=0)
    names = sorted({entity[0] for part in (true, predicted) for entity in get_entities(part)})
    cases.append(
        {
            "true": true,
            "predicted": predicted,
            "precision": float(micro[0]),
            "recall": float(micro[1]),
            "f1": float(micro[2]),
            "by_type": {
                name: [float(each[0][i]), float(each[1][i]), float(each[2][i]), int(each[3][i])]
                for i, name in enumerate(names)
            },
        }
    )
text = json.dumps({"cases": cases}, separators=(",", ":"))
(Path(__file__).parent / "seqeval.json").write_text(text)
