"""The tokenizer of a transformers folder, written: vocabulary, `tokenizer.json` and settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_clinical.wordpieces.model_tokenizer import TokenizerRules

VOCAB_FILE = "vocab.txt"
TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_MAX_CHARS_PER_WORD = 200


def known_differences(do_lower_case: bool) -> list[str]:
    """Returns in which texts the tokenizer that `write_tokenizer` writes gives other WordPieces.

    Args:
      do_lower_case: whether the model lower-cases.
    """
    differences = [
        "special tokens such as `[MASK]` are recognised in a text",
        # transformers drops the limit that `tokenizer.json` states.
        "words of 101 to 200 characters are `[UNK]`",
        "characters for private use (U+E000 to U+F8FF, planes 15 and 16; U+F0B7, Word's bullet, is "
        "one) are dropped, where training has them as a part of their word, as a rule `[UNK]`",
        "the ideographs U+2B820 to U+2B91F do not stand alone",
        "some hundred signs of scripts that Unicode took in lately, and U+166D, are punctuation "
        "for one of the two and not for the other",
    ]
    if do_lower_case:
        differences.append(
            "a capital sigma at the end of a word becomes `σ` in place of `ς`, and some hundred "
            "marks and capitals of new scripts are kept that the other drops or lower-cases"
        )
    return differences


def write_tokenizer(
    folder: Path, tokens: Sequence[str], *, rules: TokenizerRules, max_length: int
) -> None:
    """Writes the files from which `AutoTokenizer` makes this project's tokenizer again.

    What it makes differs in `known_differences`.

    Args:
      folder: where to.
      tokens: in the order of their ids; added tokens that are no WordPieces stand last.
      rules: of the model's tokenizer.
      max_length: the model's longest sequence in WordPieces, special ones included.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    outside = {token.content for token in rules.added_tokens if token.outside}
    vocab = {token: index for index, token in enumerate(tokens) if token not in outside}
    (folder / VOCAB_FILE).write_text("".join(f"{token}\n" for token in vocab), "utf-8")
    tokenizer = Tokenizer(
        WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=_MAX_CHARS_PER_WORD)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=rules.tokenize_chinese_chars,
        strip_accents=rules.strips_accents,
        lowercase=rules.do_lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS.values()]
    )
    # In the order of their ids, which those that are no WordPieces take as they are added.
    tokenizer.add_tokens(
        [
            AddedToken(
                token.content,
                normalized=token.normalized,
                single_word=token.single_word,
                special=token.special,
            )
            for token in sorted(rules.added_tokens, key=lambda token: tokens.index(token.content))
        ]
    )
    # Not its `save`: what the system says of a failure would be lost.
    (folder / TOKENIZER_FILE).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    settings: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": rules.do_lower_case,
        "do_basic_tokenize": True,
        "strip_accents": rules.strip_accents,
        "tokenize_chinese_chars": rules.tokenize_chinese_chars,
        "model_max_length": max_length,
        **SPECIAL_TOKENS,
    }
    special_tokens: dict[str, Any] = dict(SPECIAL_TOKENS)
    if rules.added_tokens:
        description = json.loads(tokenizer.to_str())
        settings["added_tokens_decoder"] = {
            str(entry.pop("id")): entry for entry in description["added_tokens"]
        }
        special_tokens["additional_special_tokens"] = [
            token.content for token in rules.added_tokens if token.special
        ]
    _write_json(folder / SETTINGS_FILE, settings)
    _write_json(folder / SPECIAL_TOKENS_FILE, special_tokens)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
