"""A model as a SavedModel that takes text, for TensorFlow Serving and for programs without ours.

Dimensions: B batch, S sequence, H hidden.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bert_clinical.inference.graph_tokenizer import GraphTokenizer
from bert_clinical.modeling import BertModel
from bert_clinical.nn.tensorflow import tf
from bert_clinical.nn.variables import bert_variable_shapes
from bert_clinical.weights.matching import POOLER
from bert_clinical.weights.pretrained import PretrainedModel
from data_prep.common.output_folder import complete_folder


class TextModel(tf.Module):
    """Tokenizer and encoder in one graph.

    Args:
      model: the encoder; without a pooler there is no `pooled_output`.
      vocab_file: its vocabulary, which becomes an asset.
      max_seq_length: WordPieces of a sequence, special ones included; longer texts are cut.
    """

    def __init__(self, model: PretrainedModel, vocab_file: Path, max_seq_length: int) -> None:
        super().__init__()
        self._has_pooler = has_pooler(model)
        self._tokenizer = GraphTokenizer(
            vocab_file,
            model.config.vocab_size,
            do_lower_case=model.do_lower_case,
            max_seq_length=max_seq_length,
        )
        self._encoder = BertModel(model.config, gelu=model.gelu)
        self._own = {name: tf.Variable(value, name=name) for name, value in model.weights.items()}
        self._absent = {
            name: np.zeros(shape, np.float32)
            for name, shape in bert_variable_shapes(model.config, heads=False).items()
            if name not in model.weights
        }

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs for texts, string [B], UTF-8.

        Returns:
          `pooled_output` float32 [B, H]; `sequence_output` float32 [B, S, H]; `input_ids` and
          `input_mask` int32 [B, S], S the longest sequence of the batch; `num_wordpieces` int32
          [B], the length of each sequence before it was cut.
        """
        input_ids, input_mask, num_wordpieces = self._tokenizer(text)
        output = self._encoder({**self._own, **self._absent}, input_ids, input_mask)
        outputs = {
            "sequence_output": output.sequence_output,
            "input_ids": input_ids,
            "input_mask": input_mask,
            "num_wordpieces": num_wordpieces,
        }
        if self._has_pooler:
            outputs["pooled_output"] = output.pooled_output
        return outputs


def has_pooler(model: PretrainedModel) -> bool:
    """Tells whether a model gives a pooled output."""
    return any(name.startswith(f"{POOLER}/") for name in model.weights)


def export_saved_model(
    *, model: PretrainedModel, output_dir: Path, max_seq_length: int, program: str
) -> None:
    """Writes a SavedModel, complete or not at all.

    Args:
      model: what to write.
      output_dir: the folder of the version, as TensorFlow Serving numbers them.
      max_seq_length: WordPieces of a sequence, special ones included.
      program: the name under which the folder can be replaced by a later run.

    Raises:
      UserError: the folder holds something else.
    """
    record = {
        "model": model.source,
        "gelu": model.gelu,
        "do_lower_case": model.do_lower_case,
        "max_seq_length": max_seq_length,
    }
    with (
        complete_folder(output_dir, program, record) as folder,
        # Its path becomes the name of a table in the graph; nobody needs the user's folders there.
        tempfile.TemporaryDirectory(prefix="vocabulary_") as own,
    ):
        vocab_file = Path(own) / "vocab.txt"
        vocab_file.write_text("".join(f"{token}\n" for token in model.tokens), "utf-8")
        module = TextModel(model, vocab_file, max_seq_length)
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.__call__})
