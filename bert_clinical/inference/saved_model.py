"""A model as a SavedModel that takes text, for TensorFlow Serving and for programs without ours.

Dimensions: B batch, S sequence, H hidden.
"""

from __future__ import annotations

from pathlib import Path

from bert_clinical.inference.graph_tokenizer import GraphTokenizer
from bert_clinical.modeling import BertModel
from bert_clinical.nn.tensorflow import tf, writing
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.weights.transformers_tokenizer import VOCAB_FILE
from data_prep.common.output_folder import complete_folder


class TextModel(tf.Module):
    """Tokenizer and encoder in one graph.

    Args:
      model: the encoder; without a pooler there is no `pooled_output`.
      folder: where its vocabulary is written, which becomes an asset.
      max_seq_length: WordPieces of a sequence, special ones included; longer texts are cut.
    """

    def __init__(self, model: PretrainedModel, folder: Path, max_seq_length: int) -> None:
        super().__init__()
        self._has_pooler = model.has_pooler()
        self._tokenizer = GraphTokenizer(
            folder, model.tokens, model.rules, max_seq_length=max_seq_length
        )
        self._encoder = BertModel(model.config, gelu=model.gelu)
        weights = model.encoder_weights()
        self._own = {
            name: tf.Variable(value, name=name)
            for name, value in weights.items()
            if name in model.weights
        }
        self._absent = {name: weights[name] for name in weights if name not in model.weights}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def __call__(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs for texts, string [B], UTF-8.

        Returns:
          `pooled_output` float32 [B, H]; `sequence_output` float32 [B, S, H]; `input_ids` and
          `input_mask` int32 [B, S], S the longest sequence of the batch; `num_wordpieces` int32
          [B], the length of each sequence before it was cut.
        """
        count = tf.shape(text)[0]
        # The model takes no batch of none, as a server may have it; a text is left out again.
        text = tf.concat([text, tf.fill([tf.maximum(1 - count, 0)], "")], axis=0)
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
        return {name: value[:count] for name, value in outputs.items()}


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
    with complete_folder(output_dir, program, record) as folder:
        module = TextModel(model, folder, max_seq_length)
        with writing(output_dir):
            tf.saved_model.save(
                module, str(folder), signatures={"serving_default": module.__call__}
            )
        # It stands among the assets now.
        (folder / VOCAB_FILE).unlink()
