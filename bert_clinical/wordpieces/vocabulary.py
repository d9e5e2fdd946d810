"""The one judge of vocabularies: what they must hold, and whether their casing is the text's.

Every program that is given a vocabulary asks here before its work begins.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bert_clinical.tokenization import (
    CLS,
    MASK,
    SEP,
    UNK,
    load_vocab,
    validate_case_matches_checkpoint,
)
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

PAD = "[PAD]"
SPECIAL_TOKENS = (PAD, UNK, CLS, SEP, MASK)

# Padding is written as id 0, whatever entry that is.
_NEEDED_BY_EXAMPLES = (CLS, SEP, MASK, UNK)

# An uncased vocabulary may hold a few capitals by accident; of a cased one they are a large part.
_CAPITALS_BY_ACCIDENT = 0.01
# Embeddings are padded to a multiple of one of these: GPUs multiply such sizes faster.
_PADDED_TO = (8, 16, 32, 64, 128)

# Fewer entries without a capital may be so by chance.
_FEWEST_WITHOUT_CAPITALS = 200


def require_usable_vocab(
    vocab_file: str | os.PathLike[str], do_lower_case: bool, *, check_case: bool = False
) -> OrderedDict[str, int]:
    """Reads a vocabulary to make examples with, as Google's `load_vocab` reads it.

    Args:
      vocab_file: one WordPiece a line.
      do_lower_case: whether texts are lower-cased.
      check_case: refuse a casing that the vocabulary contradicts; otherwise it is warned of, for
        Google's program makes such examples without a word.

    Raises:
      UserError: it is not UTF-8, lacks one of [CLS], [SEP], [MASK] and [UNK], or has another
        casing and `check_case` is given.
    """
    vocab = load_vocab(vocab_file)
    missing = [token for token in _NEEDED_BY_EXAMPLES if token not in vocab]
    if missing:
        raise UserError(
            f"--vocab_file: {vocab_file} has {len(vocab):,} entries, but {', '.join(missing)} not "
            "among them; expected a BERT vocabulary, one WordPiece a line"
        )
    if check_case:
        require_matching_case(vocab, do_lower_case, vocab_file)
    elif (mismatch := case_mismatch(vocab, do_lower_case)) is not None:
        _log.warning(
            "--do_lower_case is %s, but %s is of another casing: %s; give --do_lower_case=%s "
            "unless you mean it (--check_case refuses such a pair)",
            str(do_lower_case).lower(), vocab_file, mismatch, not do_lower_case,
        )  # fmt: skip
    return vocab


def read_vocabulary(path: Path, vocab_size: int) -> list[str]:
    """Returns the tokens of a model's vocabulary file in the order of their ids.

    Args:
      path: one token a line.
      vocab_size: what the model's config says.

    Raises:
      UserError: the file is not UTF-8, a token recurs, a special token is missing, or their number
        does not fit `vocab_size`.
    """
    vocab = load_distinct(path)
    return check_vocabulary(list(vocab), path, vocab_size)


def load_distinct(path: Path) -> OrderedDict[str, int]:
    """Reads a vocabulary in which every entry stands once.

    Raises:
      UserError: the file is not UTF-8, or an entry recurs.
    """
    vocab = load_vocab(path)
    # A token that recurs keeps its first place and takes its last number.
    for place, number in enumerate(vocab.values()):
        if number != place:
            raise UserError(
                f"{path}: lines {place + 1:,} and {number + 1:,} hold the same entry; expected "
                "every WordPiece once, with its line's number as its id"
            )
    return vocab


def check_vocabulary(tokens: Sequence[str], path: Path, vocab_size: int) -> list[str]:
    """Returns the tokens if they can serve a model of this size.

    Raises:
      UserError: a special token is missing, or their number does not fit `vocab_size`.
    """
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise UserError(
            f"{path}: {', '.join(missing)} missing among {len(tokens):,} entries; expected a BERT "
            "vocabulary"
        )
    if not fits(len(tokens), vocab_size):
        raise UserError(
            f"{path}: holds {len(tokens):,} entries, but the config's vocab_size is "
            f"{vocab_size:,}; give the vocabulary that the model was trained with"
        )
    return list(tokens)


def fits(entries: int, vocab_size: int) -> bool:
    """Tells whether a model's embedding is that of a vocabulary, padded to a round size or not.

    Args:
      entries: of the vocabulary.
      vocab_size: rows of the embedding; those beyond the entries stand for nothing.
    """
    return vocab_size == entries or any(
        vocab_size == -(-entries // multiple) * multiple for multiple in _PADDED_TO
    )


def case_mismatch(tokens: Iterable[str], do_lower_case: bool) -> str | None:
    """Says how a vocabulary contradicts a casing of texts; None if it does not.

    It does if texts are lower-cased and more than 1% of its entries hold capitals, which no text
    can reach then, or if texts keep their capitals and none of 200 entries or more holds one.
    Special tokens and [unused] entries do not count.
    """
    ordinary = [token for token in tokens if not (token.startswith("[") and token.endswith("]"))]
    capitals = sum(token != token.lower() for token in ordinary)
    if do_lower_case and capitals > _CAPITALS_BY_ACCIDENT * len(ordinary):
        return f"{capitals:,} of {len(ordinary):,} entries hold capitals and can never be used"
    has_letters = any(token.isascii() and token.isalpha() for token in ordinary)
    if (
        not do_lower_case
        and not capitals
        and has_letters
        and len(ordinary) >= _FEWEST_WITHOUT_CAPITALS
    ):
        return f"none of {len(ordinary):,} entries holds a capital"
    return None


def require_matching_case(
    tokens: Iterable[str], do_lower_case: bool, path: str | os.PathLike[str]
) -> None:
    """Refuses a --do_lower_case that the vocabulary at `path` contradicts.

    Raises:
      UserError: as `case_mismatch` tells.
    """
    mismatch = case_mismatch(tokens, do_lower_case)
    if mismatch is not None:
        kind = "a cased" if do_lower_case else "an uncased"
        raise UserError(
            f"--do_lower_case is {str(do_lower_case).lower()}, but {path} is the vocabulary of "
            f"{kind} model: {mismatch}; pass --do_lower_case={not do_lower_case} (or "
            "--nocheck_case if the texts really are to be read so)"
        )


def require_case_of_release(do_lower_case: bool, init_checkpoint: str) -> None:
    """Refuses a casing that contradicts the folder's name of one of Google's released models.

    Args:
      do_lower_case: whether texts are lower-cased.
      init_checkpoint: a prefix, a file of the checkpoint, or its folder.

    Raises:
      UserError: the model is known to have the other casing.
    """
    folder = Path(init_checkpoint)
    if not folder.is_dir():
        folder = folder.parent
    try:
        validate_case_matches_checkpoint(do_lower_case, f"{folder.absolute()}/bert_model.ckpt")
    except ValueError as error:
        raise UserError(str(error)) from None
