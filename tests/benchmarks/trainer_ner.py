"""Fine-tunes with transformers' own Trainer, for `fine_tuning_agreement`; knows no TensorFlow.

    PYTHON_WITH_ACCELERATE -m tests.benchmarks.trainer_ner SETTINGS.json

Reads and scores with this project's `tasks.entities` and `tasks.scores`, so that only learning and
predicting are theirs. Like transformers' example it labels a word's first WordPiece and cuts long
sentences off; the words that are lost count as `O`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForTokenClassification, AutoTokenizer, Trainer, TrainingArguments

from bert_clinical.tasks.entities import Sentence, data_file, labels_of, read_sentences
from bert_clinical.tasks.scores import entity_scores

_NO_LABEL = -100


class Part(torch.utils.data.Dataset):
    """Sentences as the Trainer takes them."""

    def __init__(
        self, sentences: list[Sentence], tokenizer: Any, labels: list[str], length: int
    ) -> None:
        self.sentences = sentences
        self.places: list[dict[int, int]] = []
        self._rows = []
        numbers = {label: number for number, label in enumerate(labels)}
        for sentence in sentences:
            row = tokenizer(
                list(sentence.words), is_split_into_words=True, truncation=True, max_length=length
            )
            places: dict[int, int] = {}
            row["labels"] = [_NO_LABEL] * len(row["input_ids"])
            for place, word in enumerate(row.word_ids()):
                if word is not None and word not in places:
                    places[word] = place
                    row["labels"][place] = numbers[sentence.labels[word]]
            self.places.append(places)
            self._rows.append(dict(row))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]

    def f1(self, logits: np.ndarray, labels: list[str]) -> float:
        """Returns the F1 of entities over all words."""
        best = logits.argmax(-1)
        predicted = [
            [labels[best[row, places[word]]] if word in places else "O"
             for word in range(len(sentence.words))]
            for row, (sentence, places) in enumerate(zip(self.sentences, self.places, strict=True))
        ]  # fmt: skip
        overall, _ = entity_scores([sentence.labels for sentence in self.sentences], predicted)
        return overall.f1


def fine_tune(settings: dict[str, Any], seed: int) -> dict[str, float]:
    """Returns the F1 on dev and test data of the best epoch on the dev data."""
    transformers.set_seed(seed)
    data_dir, length = Path(settings["data_dir"]), settings["max_seq_length"]
    read = {
        name: read_sentences(data_file(data_dir, name), labelled=True)
        for name in ("train", "dev", "test")
    }
    labels = labels_of(read["train"], data_dir)
    tokenizer = AutoTokenizer.from_pretrained(settings["transformers_dir"])
    parts = {name: Part(each, tokenizer, labels, length) for name, each in read.items()}
    model = AutoModelForTokenClassification.from_pretrained(
        settings["transformers_dir"], num_labels=len(labels)
    )
    steps = len(read["train"]) / settings["train_batch_size"] * settings["num_train_epochs"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder, seed=seed, use_cpu=not torch.cuda.is_available(),
                num_train_epochs=settings["num_train_epochs"],
                per_device_train_batch_size=settings["train_batch_size"],
                learning_rate=settings["learning_rate"],
                warmup_steps=int(steps * settings["warmup_proportion"]),
                weight_decay=settings["weight_decay"], adam_epsilon=settings["adam_epsilon"],
                eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
                metric_for_best_model="f", greater_is_better=True, report_to=[],
                disable_tqdm=True, logging_strategy="no",
            ),
            train_dataset=parts["train"],
            eval_dataset=parts["dev"],
            data_collator=transformers.DataCollatorForTokenClassification(tokenizer),
            compute_metrics=lambda found: {"f": parts["dev"].f1(found.predictions, labels)},
        )  # fmt: skip
        trainer.train()
        trainer.compute_metrics = None
        return {
            name: parts[name].f1(trainer.predict(parts[name]).predictions, labels)
            for name in ("dev", "test")
        }


def main() -> None:
    """Writes a line of JSON for each seed."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    assert "tensorflow" not in sys.modules
    for seed in settings["seeds"]:
        print(json.dumps({"seed": seed, **fine_tune(settings, seed)}), flush=True)


if __name__ == "__main__":
    main()
