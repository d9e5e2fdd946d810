"""A trained model as it lies on the disk, a checkpoint or a transformers folder, ready for use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import MASKED_LM_HEAD, bert_variable_shapes
from bert_clinical.weights import checkpoint
from bert_clinical.weights.decoder import read_decoder
from bert_clinical.weights.matching import POOLER, match_folder, match_variables
from bert_clinical.weights.provenance import recorded_length, require_recorded_gelu
from bert_clinical.weights.stored_tokenizer import read_tokenizer
from bert_clinical.weights.transformers_folder import open_weights
from bert_clinical.weights.transformers_names import from_transformers_config, transformers_name
from bert_clinical.wordpieces.model_tokenizer import ModelTokenizer, TokenizerRules
from bert_clinical.wordpieces.vocabulary import (
    case_mismatch,
    read_vocabulary,
    require_case_of_release,
    require_matching_case,
)
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object

_log = logging.getLogger(__name__)

WORD_EMBEDDINGS = "bert/embeddings/word_embeddings"

_DEFAULT_GELU = "tanh"


@dataclass(frozen=True)
class PretrainedModel:
    """What programs that use a model need of it.

    Attributes:
      config: its sizes and rates.
      gelu: "tanh" or "erf".
      tokens: its vocabulary in the order of the ids; the embedding may have more rows, which
        stand for nothing.
      rules: what its tokenizer does besides splitting words by the vocabulary.
      weights: float32 arrays by Google's names; without those of a pooler or a head that the
        source lacks.
      source: the prefix or the folder, for messages.
      extra: other weights of a transformers folder that were asked for, by their names there.
      output_embeddings: float32 [V, H] for the masked LM logits, where it is not the word
        embeddings again.
      trained_length: WordPieces of the longest sequence that it was trained on, where that is
        known to be less than its positions.
    """

    config: BertConfig
    gelu: str
    tokens: Sequence[str]
    rules: TokenizerRules
    weights: dict[str, np.ndarray]
    source: str
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    output_embeddings: np.ndarray | None = None
    trained_length: int | None = None

    @property
    def do_lower_case(self) -> bool:
        """Tells whether its texts are lower-cased."""
        return self.rules.do_lower_case

    def tokenizer(self) -> ModelTokenizer:
        """Returns the tokenizer that goes with the model."""
        return ModelTokenizer(self.tokens, self.rules)

    def has_pooler(self) -> bool:
        """Tells whether it gives a pooled output."""
        return any(name.startswith(f"{POOLER}/") for name in self.weights)

    def require_masked_lm_head(self) -> None:
        """Raises `UserError` if there is no masked LM head."""
        if f"{MASKED_LM_HEAD}/output_bias" not in self.weights:
            raise UserError(f"{self.source}: the model has no masked LM head; give one that has")

    def logits_table(self) -> np.ndarray:
        """Returns float32 [V, H]: what the masked LM logits are products with."""
        if self.output_embeddings is not None:
            return self.output_embeddings
        return self.weights[WORD_EMBEDDINGS]

    def encoder_weights(self) -> dict[str, np.ndarray]:
        """Returns the encoder's weights, with zeros for a pooler that is not there."""
        shapes = bert_variable_shapes(self.config, heads=False)
        return {
            name: self.weights[name] if name in self.weights else np.zeros(shape, np.float32)
            for name, shape in shapes.items()
        }


def load_from_checkpoint(
    *,
    init_checkpoint: str,
    bert_config_file: Path,
    vocab_file: Path,
    do_lower_case: bool,
    gelu: str | None = None,
    check_case: bool = True,
    heads: bool = False,
) -> PretrainedModel:
    """Reads a name-based checkpoint with its config and its vocabulary.

    Args:
      init_checkpoint: a prefix, an `.index` file or a folder.
      bert_config_file: the model's sizes.
      vocab_file: one token a line.
      do_lower_case: whether the model's texts were lower-cased.
      gelu: "tanh" or "erf"; None for what the checkpoint's folder records, else "tanh".
      check_case: refuse a casing that the vocabulary's capitals contradict.
      heads: the pretraining heads too, where they are there.

    Raises:
      UserError: the parts are missing, broken, or do not fit one another.
    """
    config = BertConfig.from_json_file(bert_config_file)
    tokens = read_vocabulary(vocab_file, config.vocab_size)
    if check_case:
        require_matching_case(tokens, do_lower_case, vocab_file)
        require_case_of_release(do_lower_case, init_checkpoint)
    prefix = checkpoint.resolve_checkpoint(init_checkpoint)
    if config.activation_name() == "gelu":
        gelu = require_recorded_gelu(Path(prefix).parent, gelu)
    match = match_variables(bert_variable_shapes(config), prefix)
    wanted = bert_variable_shapes(config, heads=heads)
    weights = checkpoint.read_tensors(prefix, [name for name in match.found if name in wanted])
    _require_finite(weights, prefix)
    return PretrainedModel(
        config=config,
        gelu=gelu or _DEFAULT_GELU,
        tokens=tokens,
        rules=TokenizerRules(do_lower_case),
        weights=weights,
        source=prefix,
        trained_length=recorded_length(Path(prefix).parent, config.max_position_embeddings),
    )


def load_from_transformers(
    folder: Path,
    *,
    do_lower_case: bool | None = None,
    check_case: bool = True,
    heads: bool = False,
    extra_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> PretrainedModel:
    """Reads the encoder of a transformers folder, whatever head the model has.

    Args:
      folder: with config, weights and tokenizer.
      do_lower_case: for a folder that does not say it; must not contradict one that does.
      check_case: refuse a casing that the vocabulary's capitals contradict.
      heads: the pretraining heads too, where they are there.
      extra_shapes: further weights to read, by their names in transformers, with their shapes.

    Raises:
      UserError: the folder is incomplete, no BERT, or holds weights of which nothing is known.
    """
    where = folder / "config.json"
    settings = read_json_object(where)
    config, gelu = from_transformers_config(settings, str(where))
    stored = read_tokenizer(folder, config.vocab_size)
    lower = _casing(folder, stored.do_lower_case, do_lower_case)
    if check_case:
        _require_matching_case(folder, stored.tokens, stored.do_lower_case, lower)
    source = open_weights(folder)
    variables = bert_variable_shapes(config, heads=heads)
    extra_shapes = extra_shapes or {}
    match = match_folder(
        variables, source.shapes, folder, extra_shapes=extra_shapes, allow_other_heads=True
    )
    if match.unused:
        _log.info("%s: left out %d weights of heads that are not used.", folder, len(match.unused))
    weights, extra = {}, {}
    for file_name, value in source.read(list(match.names)):
        name = match.names[file_name]
        if name in extra_shapes:
            extra[name] = value
        else:
            weights[name] = value.T if transformers_name(name).transposed else value
    decoder = read_decoder(source, settings, folder) if heads else None
    if decoder is not None:
        weights[f"{MASKED_LM_HEAD}/output_bias"] = decoder.bias
    _require_finite({**weights, **extra}, str(folder))
    return PretrainedModel(
        config=config,
        gelu=gelu or _DEFAULT_GELU,
        tokens=stored.tokens,
        rules=stored.rules(lower),
        weights=weights,
        source=str(folder),
        extra=extra,
        output_embeddings=None if decoder is None else decoder.weight,
        trained_length=stored.trained_length(config.max_position_embeddings),
    )


def _casing(folder: Path, recorded: bool | None, given: bool | None) -> bool:
    if recorded is not None and given is not None and recorded != given:
        raise UserError(
            f"--do_lower_case={given}, but the tokenizer of {folder} says {recorded}; leave the "
            "flag out"
        )
    lower = given if recorded is None else recorded
    if lower is None:
        raise UserError(
            f"{folder}: does not say whether its texts are lower-cased; pass --do_lower_case=True "
            "or --do_lower_case=False"
        )
    return lower


def _require_matching_case(
    folder: Path, tokens: Sequence[str], recorded: bool | None, lower: bool
) -> None:
    if recorded is None:
        require_matching_case(tokens, lower, folder)
        return
    mismatch = case_mismatch(tokens, recorded)
    if mismatch is not None:
        raise UserError(
            f"{folder}: its tokenizer says do_lower_case {str(recorded).lower()}, but in its "
            f"vocabulary {mismatch}; correct do_lower_case in tokenizer_config.json (or pass "
            "--nocheck_case if the model really was trained so)"
        )


def _require_finite(weights: dict[str, np.ndarray], source: str) -> None:
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise UserError(
                f"{source}: {name} holds NaN or infinity; expected a model from before training "
                "diverged"
            )
