"""Compares a written transformers folder with the TensorFlow model that it was made from.

Needs PyTorch and transformers, which the conversion itself does without, in a process of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bert_clinical.conversion.convert import WrittenModel
from bert_clinical.nn.variables import MASKED_LM_HEAD, NEXT_SENTENCE_HEAD
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.weights import in_pytorch
from bert_clinical.weights.checkpoint import iterate_tensors
from bert_clinical.weights.pytorch_process import PyTorchProcess, is_available
from bert_clinical.weights.safetensors_files import DTYPES
from bert_clinical.weights.transformers_tokenizer import VOCAB_FILE
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

TOLERANCE = 1e-4
_ROWS, _LENGTH = 4, 48
_WORDS = 2000


def check_conversion(written: WrittenModel, *, otherwise: str = "nothing was written") -> None:
    """Runs both models on one batch of the vocabulary's own words and logs the differences.

    For weights in half precision both models compute in float32 with the rounded weights.

    Args:
      written: the folder and what it was made from.
      otherwise: what an error says of the folder.

    Raises:
      UserError: an output differs by more than `TOLERANCE`, transformers finds a weight missing or
        unexpected, the tokenizers give different ids, or PyTorch's process died.
    """
    tokens = (written.folder / VOCAB_FILE).read_text("utf-8").splitlines()
    batch = _batch(tokens, written.config.max_position_embeddings)
    batch["segment_ids"] = np.minimum(batch["segment_ids"], written.config.type_vocab_size - 1)
    may_lack = [f"{group.replace('/', '.')}." for group in written.match.missing_groups]
    with PyTorchProcess(
        "the check in PyTorch, not the conversion,",
        f"{otherwise}; convert with --noverify, and check later with --verify_only",
    ) as process:
        expected = tensorflow_outputs(written, batch)
        _check_tokenizer(process, written, tokens, otherwise)
        found = process.call(in_pytorch.model_outputs, written.folder, batch, may_lack)
    worst = 0.0
    for name, value in expected.items():
        difference = float(np.abs(value - found[name]).max())
        worst = max(worst, difference) if np.isfinite(difference) else np.inf
        _log.info("%-20s TensorFlow and transformers differ by %.1e at most", name, difference)
    if worst > TOLERANCE:
        raise UserError(
            f"{written.prefix}: the outputs in transformers differ by {worst:.2g}, expected at "
            f"most {TOLERANCE}; {otherwise}; please report this"
        )


def _batch(tokens: list[str], max_length: int) -> dict[str, np.ndarray]:
    """Returns int32 [rows, length] inputs: vocabulary entries at random, two segments, padding."""
    rng = np.random.default_rng(0)
    special = [tokens.index(token) for token in ("[CLS]", "[SEP]", "[MASK]", "[PAD]")]
    ordinary = np.setdiff1d(np.arange(len(tokens)), special)
    length = min(_LENGTH, max_length)
    cls, sep, mask, pad = special
    input_ids = rng.choice(ordinary, (_ROWS, length)).astype(np.int32)
    segment_ids = np.zeros_like(input_ids)
    input_mask = np.ones_like(input_ids)
    for row in range(_ROWS):
        used = max(3, length - row * length // _ROWS)
        middle = used // 2
        input_ids[row, [0, middle, used - 1]] = cls, sep, sep
        input_ids[row, used // 3] = mask
        input_ids[row, used:] = pad
        segment_ids[row, middle + 1 : used] = 1
        input_mask[row, used:] = 0
    return {"input_ids": input_ids, "input_mask": input_mask, "segment_ids": segment_ids}


def tensorflow_outputs(
    written: WrittenModel, batch: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns what the TensorFlow model answers with the weights as they were stored.

    Args:
      written: the model.
      batch: int32 [batch_size, seq_length] `input_ids`, `input_mask` and `segment_ids`.

    Returns:
      Float32 "hidden states" [layers + 1, batch_size, seq_length, hidden_size], "pooled output",
      and for the heads that are there "masked LM logits" [batch_size * seq_length, vocab_size]
      and "next sentence logits".
    """
    from bert_clinical.modeling import BertModel
    from bert_clinical.nn.heads import masked_lm_logits, next_sentence_logits
    from bert_clinical.nn.tensorflow import tf

    stored = DTYPES[written.dtype][1]
    weights = {
        name: tf.constant(value.astype(stored).astype(np.float32))
        for name, value in iterate_tensors(written.prefix, written.match.found)
    }
    model = BertModel(written.config, gelu=written.gelu)
    output = model(
        weights,
        *(tf.constant(batch[name]) for name in ("input_ids", "input_mask", "segment_ids")),
    )
    outputs = {
        "hidden states": tf.stack([output.embedding_output, *output.all_encoder_layers]),
        "pooled output": output.pooled_output,
    }
    if MASKED_LM_HEAD not in written.match.missing_groups:
        vectors = tf.reshape(output.sequence_output, [-1, written.config.hidden_size])
        outputs["masked LM logits"] = masked_lm_logits(
            weights, vectors, weights["bert/embeddings/word_embeddings"], model.activation
        )
    if NEXT_SENTENCE_HEAD not in written.match.missing_groups:
        outputs["next sentence logits"] = next_sentence_logits(weights, output.pooled_output)
    return {name: value.numpy() for name, value in outputs.items()}


def _check_tokenizer(
    process: PyTorchProcess, written: WrittenModel, tokens: list[str], otherwise: str
) -> None:
    """Compares the ids of words spread over the vocabulary, as they are and with a capital."""
    ours = FullTokenizer(str(written.folder / VOCAB_FILE), do_lower_case=written.do_lower_case)
    words = [token for token in tokens if not token.startswith(("##", "["))]
    words = words[:: max(1, len(words) // _WORDS)]
    words += [word.capitalize() for word in words]
    found = process.call(in_pytorch.token_ids, written.folder, words)
    different = sum(
        ids != ours.convert_tokens_to_ids(ours.tokenize(word))
        for word, ids in zip(words, found, strict=True)
    )
    _log.info("transformers' tokenizer: %d of %d words differ", different, len(words))
    if different:
        raise UserError(
            f"{written.prefix}: the tokenizer in transformers gives other ids for {different} of "
            f"{len(words):,} words of the vocabulary; {otherwise}; please report this"
        )


def require_available(folder: Path) -> None:
    """Raises `UserError` where a check is asked for and cannot be done."""
    if not is_available():
        raise UserError(
            f"--verify: PyTorch and transformers are needed to check {folder} and are not "
            "installed; run pip install torch transformers, or pass --noverify"
        )
