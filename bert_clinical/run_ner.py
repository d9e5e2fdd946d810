"""Fine-tunes BERT to find entities, evaluates it, predicts the label of every word.

Reads files of a word and its BIO label a line, sentences apart by a blank line, as clinicalBERT's
i2b2 scripts write them: train, dev or devel, and test in --data_dir, ending in .tsv, .conll, .txt
or .bio. Writes into --output_dir a model that transformers loads, eval_results.json, and for each
file that was predicted a label a line, aligned to it. With --do_eval the epoch with the highest
entity F1 on the dev data is kept, of equal ones that with the least loss, else the last. A run
that was interrupted goes on with the same command, from checkpoints in <output_dir>.training.

Example:
  python -m bert_clinical.run_ner --task_name=conll --data_dir=i2b2_2010 --do_train --do_eval \\
    --transformers_dir=clinical_bert/transformers --output_dir=i2b2_model
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from bert_clinical.tasks import entities as ner_data
from bert_clinical.tasks import flags as task_flags
from bert_clinical.tasks import run as task_run
from bert_clinical.tasks.data import Encoded
from bert_clinical.tasks.entities import TASKS, SentenceWindow
from bert_clinical.tasks.flags import Defaults
from bert_clinical.tasks.folder import TOKEN_CLASSIFICATION
from bert_clinical.tasks.run import Measured, Part, Task
from bert_clinical.tasks.scores import entity_scores, table_of_scores
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common import program
from data_prep.common.errors import UsageError
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)

_DEFAULTS = Defaults(do_lower_case=False, do_train=True, do_predict=True, num_train_epochs=10.0)

_FIRST, _PUBLISHED = "first", "published"


class EntityRecognition(Task):
    """Words with BIO labels.

    Args:
      data_dir: folder of the data.
      max_seq_length: of a window, in WordPieces.
      published: the original's classes, loss and cutting off.
    """

    program = "run_ner"
    architecture = TOKEN_CLASSIFICATION
    metric = "f"
    per_token = True

    def __init__(self, data_dir: Path, max_seq_length: int, *, published: bool = False) -> None:
        self._data_dir = data_dir
        self._max_seq_length = max_seq_length
        self._published = published
        self.sum_loss = published

    def read(self, name: str, *, labelled: bool) -> Part:
        """Reads the part "train", "dev" or "test"."""
        path = ner_data.data_file(self._data_dir, name)
        sentences = ner_data.read_sentences(path, labelled=labelled)
        return Part(name, path, sentences, sentences[0].labels is not None)

    def labels(self, train: Part) -> list[str]:
        """Returns the labels that a model is to learn, in the order of their numbers."""
        labels = ner_data.labels_of(train.examples, train.path)
        return ner_data.published_labels(labels) if self._published else labels

    def check_labels(self, part: Part, labels: Sequence[str]) -> None:
        """Says how many labels are unknown to the model, which can only be missed."""
        known = set(labels)
        unknown = sum(
            label not in known for sentence in part.examples for label in sentence.labels or ()
        )
        if unknown:
            _log.info(
                "%s: %d words carry labels that the model does not learn; they count as missed.",
                part.path, unknown,
            )  # fmt: skip

    def encode(
        self, part: Part, model: PretrainedModel, labels: Sequence[str]
    ) -> list[SentenceWindow]:
        """Returns a part's windows."""
        encode = ner_data.encode_windows
        if self._published or ner_data.PIECE_LABELS[0] in labels:
            encode = ner_data.encode_as_published
        label_ids = {label: number for number, label in enumerate(labels)}
        encoder = TextEncoder(model.tokenizer())
        return encode(part.examples, encoder, label_ids, self._max_seq_length)

    def inputs(self, encoded: Sequence[SentenceWindow]) -> list[Encoded]:
        """Returns the windows' WordPieces."""
        return [window.encoded for window in encoded]

    def measure(
        self,
        part: Part,
        encoded: Sequence[SentenceWindow],
        logits: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> Measured:
        """Returns precision, recall and F1 of entities, and the predictions.

        Differs: the original's own figures count WordPieces of its classes 1 and 2 alone; entities
          it leaves to scripts run afterwards.
        """
        predicted = ner_data.word_labels(part.examples, encoded, logits, labels)
        files = {f"{part.name}_predictions.txt": ner_data.aligned_lines(part.examples, predicted)}
        if not part.labelled:
            return Measured({}, {}, (), files)
        true = [sentence.labels or () for sentence in part.examples]
        overall, by_type = entity_scores(true, predicted)
        words = sum(map(len, true))
        agreeing = sum(
            label == other
            for sentence, others in zip(true, predicted, strict=True)
            for label, other in zip(sentence, others, strict=True)
        )
        metrics = {
            "precision": overall.precision,
            "recall": overall.recall,
            "f": overall.f1,
            "accuracy": agreeing / words,
        }
        scores = {kind or "entity": score for kind, score in by_type.items()}
        lines = [
            *table_of_scores("entity", {**scores, "all": overall}),
            f"accuracy {metrics['accuracy']:.4f} of {words} words",
        ]
        details = {
            "words": words,
            "by_type": {kind: score.to_dict() for kind, score in scores.items()},
        }
        return Measured(metrics, details, lines, files)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags."""
    task_flags.define_common_flags(values, _DEFAULTS, TASKS)
    flags.DEFINE_integer(
        "keep_checkpoint_max", 1, "Without effect: one model is kept, the best or the last.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "cross_val_sz", None,
        "Refused: the files' own split is used, as in the paper; the original trains ten times on "
        "folds of its own making.",
        flag_values=values,
    )  # fmt: skip
    task_flags.define_further_flags(values)
    flags.DEFINE_enum(
        "word_labels", _FIRST, [_FIRST, _PUBLISHED],
        "first: a word's first WordPiece carries its label, only these are learned, and long "
        "sentences are read in windows. published: as in the original, padding, later WordPieces "
        "and special tokens are classes too, long sentences are cut off, and Adam's moments are "
        "as they are (--noadam_bias_correction).",
        flag_values=values,
    )  # fmt: skip


def main(values: ProgramFlags) -> int:
    """Checks the flags, then runs; returns an exit status."""
    published = values.word_labels == _PUBLISHED
    others: dict[str, bool] = {"pad_to_max_seq_length": published}
    if published and not values["adam_bias_correction"].present:
        others["adam_bias_correction"] = False
    request = task_flags.read(values, TASKS, **others)
    if values.cross_val_sz is not None:
        raise UsageError(
            "--cross_val_sz: the files' own split is used, as in the paper; remove the flag"
        )
    task = EntityRecognition(
        Path(values.data_dir), request.options.max_seq_length, published=published
    )
    return task_run.run_task(request, task)


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
