"""Google's format of a model, three files, and which models of transformers it can hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bert_clinical.wordpieces.model_tokenizer import ModelTokenizer, TokenizerRules
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

CHECKPOINT_NAME = "bert_model.ckpt"
CONFIG_FILE = "bert_config.json"


def require_googles_rules(tokens: Sequence[str], rules: TokenizerRules, folder: Path) -> None:
    """Raises `UserError` if a vocabulary and a casing cannot say what a tokenizer does.

    Added tokens that `FullTokenizer` finds as words become entries like any other.

    Args:
      tokens: in the order of their ids.
      rules: of the tokenizer.
      folder: of the model, for messages.
    """
    advice = "Google's format has a vocabulary and --do_lower_case only; use the folder as it is"
    if rules.strip_accents is not None:
        raise UserError(
            f"{folder}: its tokenizer has strip_accents {str(rules.strip_accents).lower()}, "
            f"unlike do_lower_case; {advice}"
        )
    if not rules.tokenize_chinese_chars:
        raise UserError(f"{folder}: its tokenizer has tokenize_chinese_chars false; {advice}")
    if not rules.added_tokens:
        return
    plain = ModelTokenizer(tokens, TokenizerRules(rules.do_lower_case))
    lost = [t for t in rules.added_tokens if plain.tokenize(t.content) != [t.content]]
    if lost:
        raise UserError(
            f"{folder}: {len(lost)} of {len(rules.added_tokens)} added tokens are no words to "
            "Google's tokenizer, which would take them apart (the first has id "
            f"{list(tokens).index(lost[0].content):,}); {advice}"
        )
    _log.warning(
        "%s: %d added tokens become entries of vocab.txt; they are found as words and beginnings "
        "of words from here on, and not inside words", folder, len(rules.added_tokens),
    )  # fmt: skip


def require_tied(is_tied: bool, folder: Path) -> None:
    """Raises `UserError` if the masked LM decoder is not the word embeddings again.

    Args:
      is_tied: whether it is.
      folder: of the model, for the message.
    """
    if not is_tied:
        raise UserError(
            f"{folder}: the masked LM decoder has weights of its own; expected a decoder tied to "
            "the embeddings, as Google's format has it"
        )
