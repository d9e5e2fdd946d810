"""Shows what a model expects in the place of [MASK].

Reads a transformers folder, or a folder with a checkpoint, bert_config.json and vocab.txt, and
computes in TensorFlow; needs no PyTorch. For each [MASK] of the text it prints the likeliest
WordPieces with their probabilities. The text itself is not printed.

Example:
  python -m bert_clinical.fill_mask --model_dir=clinical_bert/transformers \\
    --text="The patient was [MASK] to the ICU."
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from absl import flags

from bert_clinical.tokenization import CLS, MASK, SEP
from bert_clinical.weights import model_flags
from bert_clinical.weights.pretrained import PretrainedModel
from data_prep.common import program
from data_prep.common.errors import UsageError, UserError
from data_prep.common.program import ProgramFlags

_log = logging.getLogger(__name__)


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags on `values`."""
    model_flags.define_model_dir(values)
    flags.DEFINE_string(
        "text", None, "Text with one [MASK] or several, in double quotes.", flag_values=values
    )
    flags.DEFINE_integer(
        "top_k", 5, "How many WordPieces to show for each [MASK].", lower_bound=1,
        flag_values=values,
    )  # fmt: skip
    model_flags.define_checkpoint_flags(values)
    values.require("model_dir", "text")


def main(values: ProgramFlags) -> None:
    """Checks the flags, then predicts and prints."""
    if MASK not in values.text:
        raise UsageError(f"--text holds no {MASK}; put it where a word is to be found")
    model = model_flags.read(values).load(heads=True)
    predictions = predict(model, values.text, top_k=values.top_k)
    for number, pieces in enumerate(predictions, 1):
        if len(predictions) > 1:
            _log.info("%s %d", MASK, number)
        for piece, probability in pieces:
            _log.info("%.4f  %s", probability, piece)


def predict(model: PretrainedModel, text: str, *, top_k: int) -> list[list[tuple[str, float]]]:
    """Returns for each `[MASK]` in a text the likeliest WordPieces with their probabilities.

    Args:
      model: with its masked LM head.
      text: tokenized as in training, but for `[MASK]`, which is recognised.
      top_k: how many, the likeliest first.

    Raises:
      UserError: the model has no masked LM head, or the text is too long for it.
    """
    model.require_masked_lm_head()
    tokens = _tokens(model, text)
    limit = model.config.max_position_embeddings
    if len(tokens) > limit:
        raise UserError(
            f"--text has {len(tokens)} WordPieces, but the model takes {limit}; give a shorter text"
        )
    ids = model.tokenizer().convert_tokens_to_ids(tokens)
    positions = [position for position, token in enumerate(tokens) if token == MASK]
    probabilities = _probabilities(model, ids, positions)
    # Rows of the embedding beyond the vocabulary stand for nothing.
    candidates = probabilities[:, : len(model.tokens)]
    best = np.argsort(-candidates, axis=-1, kind="stable")[:, :top_k]
    return [
        [(model.tokens[piece], float(row[piece])) for piece in pieces]
        for row, pieces in zip(probabilities, best, strict=True)
    ]


def _tokens(model: PretrainedModel, text: str) -> list[str]:
    """Returns the WordPieces with `[MASK]` as one token, which the tokenizer would take apart."""
    tokenizer = model.tokenizer()
    tokens = [CLS]
    for number, part in enumerate(text.split(MASK)):
        tokens += [MASK] * (number > 0) + tokenizer.tokenize(part)
    return [*tokens, SEP]


def _probabilities(
    model: PretrainedModel, ids: Sequence[int], positions: Sequence[int]
) -> np.ndarray:
    """Returns float32 [positions, vocab_size]."""
    from bert_clinical.modeling import BertModel
    from bert_clinical.nn.heads import masked_lm_logits
    from bert_clinical.nn.tensorflow import tf

    weights = {
        name: tf.constant(value)
        for name, value in {**model.weights, **model.encoder_weights()}.items()
    }
    encoder = BertModel(model.config, gelu=model.gelu)
    output = encoder(weights, tf.constant([list(ids)], tf.int32))
    vectors = tf.gather(output.sequence_output[0], list(positions))
    logits = masked_lm_logits(weights, vectors, model.logits_table(), encoder.activation)
    return tf.nn.softmax(logits).numpy()


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
