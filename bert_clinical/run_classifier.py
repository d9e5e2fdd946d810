"""Fine-tunes BERT to classify sentences or pairs of them, evaluates it, predicts.

Reads MedNLI (--task_name=mednli: mli_train_v1.jsonl, mli_dev_v1.jsonl, mli_test_v1.jsonl) or any
tab-separated files (--task_name=tsv: train.tsv, dev.tsv, test.tsv, with a header row that names
sentence1, label and, for pairs, sentence2). Writes into --output_dir a model that transformers
loads, eval_results.json and the predictions. With --do_eval the epoch with the highest accuracy on
the dev data is kept, of equal ones that with the least loss, else the last. A run that was
interrupted goes on with the same command, from checkpoints in <output_dir>.training.

Example:
  python -m bert_clinical.run_classifier --task_name=mednli --data_dir=mednli \\
    --transformers_dir=clinical_bert/transformers --output_dir=mednli_model --do_train --do_eval
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bert_clinical.tasks import classification as classification_data
from bert_clinical.tasks import flags as task_flags
from bert_clinical.tasks import run as task_run
from bert_clinical.tasks.classification import TASKS
from bert_clinical.tasks.data import Encoded
from bert_clinical.tasks.flags import Defaults
from bert_clinical.tasks.folder import SEQUENCE_CLASSIFICATION
from bert_clinical.tasks.run import Measured, Part, Task
from bert_clinical.tasks.scores import Score, table_of_scores
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common import program
from data_prep.common.program import ProgramFlags

_DEFAULTS = Defaults(do_lower_case=True, do_train=False, do_predict=False, num_train_epochs=3.0)


class Classification(Task):
    """Sentences, or pairs of them, with one label each.

    Args:
      task_name: of `TASKS`.
      data_dir: folder of the data.
      max_seq_length: of an input, in WordPieces.
    """

    program = "run_classifier"
    architecture = SEQUENCE_CLASSIFICATION
    metric = "accuracy"
    per_token = False

    def __init__(self, task_name: str, data_dir: Path, max_seq_length: int) -> None:
        self._task_name = task_name
        self._data_dir = data_dir
        self._max_seq_length = max_seq_length

    def read(self, name: str, *, labelled: bool) -> Part:
        """Reads the part "train", "dev" or "test"."""
        path = classification_data.data_file(self._task_name, self._data_dir, name)
        examples = classification_data.read_examples(self._task_name, path, labelled=labelled)
        all_labelled = all(example.label is not None for example in examples)
        return Part(name, path, examples, labelled or all_labelled)

    def labels(self, train: Part) -> list[str]:
        """Returns the labels that a model is to learn, in the order of their numbers."""
        return classification_data.labels_of(self._task_name, train.examples, train.path)

    def check_labels(self, part: Part, labels: Sequence[str]) -> None:
        """Raises `UserError` if a label of a part is unknown to the model."""
        if part.labelled:
            classification_data.require_known_labels(part.examples, labels, part.path)

    def encode(self, part: Part, model: PretrainedModel, labels: Sequence[str]) -> list[Encoded]:
        """Returns a part's inputs."""
        label_ids = {label: number for number, label in enumerate(labels)}
        return classification_data.encode_examples(
            part.examples, TextEncoder(model.tokenizer()), label_ids, self._max_seq_length
        )

    def inputs(self, encoded: Sequence[Encoded]) -> list[Encoded]:
        """Returns the same inputs."""
        return list(encoded)

    def measure(
        self,
        part: Part,
        encoded: Sequence[Encoded],
        logits: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> Measured:
        """Returns accuracy, each label's figures, and the predictions.

        `test_results.tsv` holds each row's probabilities as Google's does; `<part>_predictions.tsv`
        the row's id and label.
        """
        from bert_clinical.tasks.training import probabilities

        table = np.stack(logits)
        predicted = table.argmax(axis=1)
        names = [labels[number] for number in predicted]
        ids = [example.guid for example in part.examples]
        rows = [f"{guid}\t{name}" for guid, name in zip(ids, names, strict=True)]
        files = {f"{part.name}_predictions.tsv": ["id\tlabel", *rows]}
        if part.name == "test":
            files["test_results.tsv"] = [
                "\t".join(str(value) for value in row) for row in probabilities(table)
            ]
        if not part.labelled:
            return Measured({}, {}, (), files)
        true = np.array([example.label_ids[0] for example in encoded])
        accuracy = float(np.mean(predicted == true))
        scores = {
            label: Score(
                int(np.sum((predicted == number) & (true == number))),
                int(np.sum(predicted == number)),
                int(np.sum(true == number)),
            )
            for number, label in enumerate(labels)
        }
        lines = [
            *table_of_scores("label", scores),
            f"accuracy {accuracy:.4f} of {len(true)} examples",
        ]
        details = {"by_label": {label: score.to_dict() for label, score in scores.items()}}
        return Measured({"accuracy": accuracy}, details, lines, files)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags."""
    task_flags.define_common_flags(values, _DEFAULTS, TASKS)
    task_flags.define_further_flags(values)


def main(values: ProgramFlags) -> int:
    """Checks the flags, then runs; returns an exit status."""
    request = task_flags.read(values, TASKS)
    task = Classification(request.task_name, Path(values.data_dir), request.options.max_seq_length)
    return task_run.run_task(request, task)


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
