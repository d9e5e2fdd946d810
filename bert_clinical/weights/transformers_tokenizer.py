"""The tokenizer of a transformers folder: its vocabulary, `tokenizer.json` and settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bert_clinical.wordpieces.vocabulary import check_vocabulary, read_vocabulary
from data_prep.common.errors import UserError

VOCAB_FILE = "vocab.txt"

_SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_MAX_CHARS_PER_WORD = 200


def write_tokenizer(
    folder: Path, tokens: Sequence[str], *, do_lower_case: bool, max_length: int
) -> None:
    """Writes the files from which `AutoTokenizer` makes this project's `FullTokenizer` again.

    Known differences of what it makes: special tokens in a text are recognised there, and words of
    101 to 200 characters are `[UNK]` (transformers drops the limit that `tokenizer.json` states).

    Args:
      folder: where to.
      tokens: in the order of their ids.
      do_lower_case: as the model was trained.
      max_length: the model's longest sequence in WordPieces, special ones included.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    vocab = {token: index for index, token in enumerate(tokens)}
    (folder / VOCAB_FILE).write_text("".join(f"{token}\n" for token in tokens), "utf-8")
    tokenizer = Tokenizer(
        WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=_MAX_CHARS_PER_WORD)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=do_lower_case,
        lowercase=do_lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in _SPECIAL_TOKENS.values()]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": do_lower_case,
        "do_basic_tokenize": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": max_length,
        **_SPECIAL_TOKENS,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    _write_json(folder / "special_tokens_map.json", _SPECIAL_TOKENS)


def read_tokenizer(folder: Path, vocab_size: int) -> tuple[list[str], bool | None]:
    """Returns the tokens of a transformers folder in order, and whether it lower-cases text.

    `vocab.txt` where there is one, else the vocabulary in `tokenizer.json`; None for the casing
    where no file tells it.

    Raises:
      UserError: there is neither, it is no WordPiece vocabulary, or it does not fit the model.
    """
    description = _read_json(folder / "tokenizer.json")
    vocab_file = folder / VOCAB_FILE
    if vocab_file.is_file():
        tokens = read_vocabulary(vocab_file, vocab_size)
    elif description:
        tokens = _tokens_of(description, folder / "tokenizer.json", vocab_size)
    else:
        raise UserError(f"{folder}: holds neither vocab.txt nor tokenizer.json; expected one")
    lower = _read_json(folder / "tokenizer_config.json").get("do_lower_case")
    if not isinstance(lower, bool):
        lower = (description.get("normalizer") or {}).get("lowercase")
    return tokens, lower if isinstance(lower, bool) else None


def _tokens_of(description: dict, path: Path, vocab_size: int) -> list[str]:
    model = description.get("model") or {}
    vocab = model.get("vocab")
    if model.get("type", "WordPiece") != "WordPiece" or not isinstance(vocab, dict):
        raise UserError(f"{path}: found a {model.get('type')} tokenizer, expected WordPiece")
    ids = {entry["content"]: entry["id"] for entry in description.get("added_tokens") or []}
    ids = {**vocab, **ids}
    tokens = sorted(ids, key=lambda token: ids[token])
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise UserError(f"{path}: its ids are not 0 to {len(tokens) - 1:,}; expected each once")
    return check_vocabulary(tokens, path, vocab_size)


def _read_json(path: Path) -> dict:
    """Returns a JSON object, an empty one where there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"{path}: broken JSON; copy or download it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: found a JSON {type(value).__name__}, expected an object")
    return value


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
