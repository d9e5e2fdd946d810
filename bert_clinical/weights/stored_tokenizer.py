"""The tokenizer of a transformers folder, read: honoured, or refused by what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_clinical.weights.provenance import as_object
from bert_clinical.weights.transformers_tokenizer import (
    SETTINGS_FILE,
    SPECIAL_TOKENS,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_FILE,
    VOCAB_FILE,
)
from bert_clinical.wordpieces.model_tokenizer import AddedToken, TokenizerRules
from bert_clinical.wordpieces.vocabulary import check_vocabulary, load_distinct
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object

_ADDED_TOKENS_FILE = "added_tokens.json"

_BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_OF_TOKENIZER_JSON = ("PreTrainedTokenizer", "TokenizersBackend")
"""Classes of transformers that take everything from tokenizer.json."""

_NAMES = tuple(SPECIAL_TOKENS.values())
_LONGEST_ADDED = 200
_LONGEST_WORDS = (100, 200)
"""Characters, of transformers and of Google. transformers heeds what a file says only where it goes
by `tokenizer.json` alone."""


@dataclass(frozen=True)
class StoredTokenizer:
    """What a folder says of its tokenizer.

    Attributes:
      tokens: in the order of their ids; may be fewer than the embedding has rows.
      do_lower_case: None where no file tells it.
      strip_accents: None for as `do_lower_case`.
      tokenize_chinese_chars: whether CJK ideographs are words.
      added_tokens: found in texts before they are split.
      max_length: WordPieces of the longest sequence; None where no file tells it.
    """

    tokens: list[str]
    do_lower_case: bool | None
    strip_accents: bool | None
    tokenize_chinese_chars: bool
    added_tokens: tuple[AddedToken, ...]
    max_length: int | None

    def rules(self, do_lower_case: bool) -> TokenizerRules:
        """Returns the rules, with the casing that is certain by now."""
        return TokenizerRules(
            do_lower_case, self.strip_accents, self.tokenize_chinese_chars, self.added_tokens
        )

    def trained_length(self, positions: int) -> int | None:
        """Returns `max_length` where it is less than the model's positions."""
        return self.max_length if self.max_length and self.max_length < positions else None


def read_tokenizer(folder: Path, vocab_size: int) -> StoredTokenizer:
    """Reads vocabulary and rules of a transformers folder.

    Args:
      folder: with `vocab.txt` or `tokenizer.json`, and `tokenizer_config.json` if any.
      vocab_size: rows of the model's embedding.

    Raises:
      UserError: it is no WordPiece vocabulary, does not fit the model, its files contradict each
        other, or it has a rule that this project does not know; names it.
    """
    settings = _read(folder / SETTINGS_FILE)
    description = _read(folder / TOKENIZER_FILE)
    for path in (folder / SETTINGS_FILE, folder / SPECIAL_TOKENS_FILE):
        _refuse_unknown(_read(path), path)
    alone = _class_of(settings) in _OF_TOKENIZER_JSON
    _refuse_unknown_steps(description, folder / TOKENIZER_FILE, alone=alone)
    lower, accents, chinese = _rules(settings, description, folder)
    added = _added_tokens(settings, description, folder)
    tokens, base = _tokens(description, added, folder, vocab_size)
    recognised = {content: token for content, (_, token) in added.items()}
    for token in _special_tokens(settings, folder):
        recognised.setdefault(token.content, token)
    for name in _NAMES:
        recognised.pop(name, None)
    length = settings.get("model_max_length")
    return StoredTokenizer(
        tokens=tokens,
        do_lower_case=lower,
        strip_accents=accents,
        tokenize_chinese_chars=chinese,
        added_tokens=tuple(
            _usable(token, token.content not in base, tokens, folder)
            for token in recognised.values()
        ),
        # Where there is no limit transformers writes a number of thirty digits.
        max_length=length if isinstance(length, int) and 2 < length < 2**31 else None,
    )


def _read(path: Path) -> dict[str, Any]:
    """Returns a JSON object, an empty one where there is no such file."""
    return read_json_object(path) if path.is_file() else {}


def _refuse_unknown(settings: Mapping[str, Any], path: Path) -> None:
    """Raises `UserError` for a setting that changes the WordPieces and cannot be honoured."""
    kind = _class_of(settings)
    if kind not in (*_BERT_CLASSES, *_OF_TOKENIZER_JSON):
        raise UserError(f"{path}: tokenizer_class is {kind!r}; expected {_BERT_CLASSES[0]}")
    if settings.get("never_split"):
        raise UserError(
            f"{path}: found never_split, which transformers itself heeds in some versions only; "
            "make these words added tokens (tokenizer.add_tokens), or remove the setting"
        )
    if settings.get("do_basic_tokenize") is False:
        raise UserError(f"{path}: found do_basic_tokenize false; expected BERT's own tokenizer")
    for name, expected in SPECIAL_TOKENS.items():
        found = settings.get(name)
        if found is not None and _content(found) != expected:
            raise UserError(f"{path}: {name} is not BERT's {expected}; expected that")


def _refuse_unknown_steps(description: Mapping[str, Any], path: Path, *, alone: bool) -> None:
    """Raises `UserError` for a step that `FullTokenizer` does not make.

    Args:
      description: what the file holds; empty where there is no such file.
      path: the file.
      alone: whether transformers goes by this file alone, so that every step must be there.
    """
    if not description:
        return
    model = as_object(description.get("model"))
    kind = model.get("type", "WordPiece")
    if kind != "WordPiece":
        raise UserError(f"{path}: found a {kind} tokenizer, expected WordPiece")
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not all(type(number) is int for number in vocab.values()):
        raise UserError(f"{path}: its model has no vocab of tokens and ids; download it again")
    prefix = model.get("continuing_subword_prefix", "##")
    if prefix != "##":
        raise UserError(f"{path}: pieces within words begin with {prefix!r}; expected ##")
    unknown = model.get("unk_token", SPECIAL_TOKENS["unk_token"])
    if unknown != SPECIAL_TOKENS["unk_token"]:
        raise UserError(f"{path}: its unk_token is not BERT's {SPECIAL_TOKENS['unk_token']}")
    longest = model.get("max_input_chars_per_word", _LONGEST_WORDS[0])
    if alone and longest not in _LONGEST_WORDS:
        raise UserError(
            f"{path}: max_input_chars_per_word is {longest!r}; expected one of {_LONGEST_WORDS}, "
            "the limits of transformers and of Google's tokenizer"
        )
    steps = (("normalizer", "BertNormalizer"), ("pre_tokenizer", "BertPreTokenizer"))
    for step, expected in steps:
        found = as_object(description.get(step)).get("type", "no step" if alone else expected)
        if found != expected:
            raise UserError(f"{path}: its {step} is {found}; expected {expected}")
    if as_object(description.get("normalizer")).get("clean_text") is False:
        raise UserError(f"{path}: found clean_text false; BERT's tokenizer cleans its text")


def _class_of(settings: Mapping[str, Any]) -> str:
    return str(settings.get("tokenizer_class") or _BERT_CLASSES[0]).removesuffix("Fast")


def _rules(
    settings: Mapping[str, Any], description: Mapping[str, Any], folder: Path
) -> tuple[bool | None, bool | None, bool]:
    """Returns the casing, what becomes of accents, and whether ideographs are words.

    transformers goes by tokenizer_config.json, other programs by tokenizer.json; a folder whose
    files differ means one thing here and another there.
    """
    normalizer = as_object(description.get("normalizer"))
    names = (
        ("do_lower_case", "lowercase", True),
        ("strip_accents", "strip_accents", None),
        ("tokenize_chinese_chars", "handle_chinese_chars", True),
    )
    said: dict[str, bool | None] = {}
    of_json = _class_of(settings) in _OF_TOKENIZER_JSON
    for name, in_json, default in names:
        first = None if of_json else settings.get(name)
        second = normalizer.get(in_json)
        for value, file in ((first, SETTINGS_FILE), (second, TOKENIZER_FILE)):
            if value is not None and not isinstance(value, bool):
                raise UserError(f"{folder / file}: {name} is {value!r}; expected true or false")
        if name == "strip_accents":
            # Each is to be understood beside the casing of its own file.
            lower = said["do_lower_case"]
            known = lower is not None and bool(normalizer) and not of_json
            first, second = (lower if v is None and known else v for v in (first, second))
        elif first is None and normalizer and not of_json:
            first = default
        if first is not None and second is not None and first != second:
            raise UserError(
                f"{folder}: by {SETTINGS_FILE} transformers takes {name} {_json(first)}, but "
                f"{TOKENIZER_FILE} says {in_json} {_json(second)}; make both say what the model "
                "was trained with"
            )
        said[name] = second if first is None else first
    lower, accents = said["do_lower_case"], said["strip_accents"]
    if accents is not None and accents == lower:
        accents = None
    return lower, accents, said["tokenize_chinese_chars"] is not False


def _json(value: bool | None) -> str:
    return {None: "null", True: "true", False: "false"}[value]


def _added_tokens(
    settings: Mapping[str, Any], description: Mapping[str, Any], folder: Path
) -> dict[str, tuple[int, AddedToken]]:
    """Returns the added tokens with their ids by content, BERT's special ones included.

    Raises:
      UserError: two files say different things of one.
    """
    sources: list[tuple[str, Iterable[tuple[Any, Any]]]] = [
        (SETTINGS_FILE, as_object(settings.get("added_tokens_decoder")).items()),
        (TOKENIZER_FILE, [(as_object(e).get("id"), e) for e in _list(description, "added_tokens")]),
    ]
    found: dict[str, tuple[int, AddedToken]] = {}
    for file, entries in sources:
        for number, entry in entries:
            content = _content(entry)
            if content is None or not re.fullmatch("[0-9]{1,9}", str(number)):
                raise UserError(f"{folder / file}: found an added token without content or id")
            stated = int(number), _token(as_object(entry), content)
            if found.setdefault(content, stated) != stated:
                raise UserError(
                    f"{folder}: {SETTINGS_FILE} and {TOKENIZER_FILE} describe the added token of "
                    f"id {number} differently; save the tokenizer again with transformers"
                )
    special = {token.content for token in _special_tokens(settings, folder)}
    for content, number in _read(folder / _ADDED_TOKENS_FILE).items():
        if type(number) is not int:
            raise UserError(f"{folder / _ADDED_TOKENS_FILE}: found an id that is no number")
        is_special = content in special or content in _NAMES
        token = AddedToken(content, normalized=not is_special, special=is_special)
        if found.setdefault(content, (number, token))[0] != number:
            raise UserError(
                f"{folder}: {_ADDED_TOKENS_FILE} gives another id than other files for the added "
                f"token {number}; save the tokenizer again with transformers"
            )
    return found


def _special_tokens(settings: Mapping[str, Any], folder: Path) -> list[AddedToken]:
    """Returns special tokens besides BERT's, which texts are searched for."""
    found = []
    for source in (settings, _read(folder / SPECIAL_TOKENS_FILE)):
        for name in ("additional_special_tokens", "extra_special_tokens"):
            for entry in _list(source, name):
                content = _content(entry)
                if content is not None:
                    token = _token({"normalized": False, **as_object(entry)}, content)
                    found.append(AddedToken(content, token.normalized, token.single_word, True))
    return found


def _list(source: Mapping[str, Any], name: str) -> list[Any]:
    value = source.get(name)
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _content(entry: Any) -> str | None:
    """Returns the token of an entry, which is a string or an object with its rules."""
    content = entry.get("content") if isinstance(entry, dict) else entry
    return content if isinstance(content, str) else None


def _token(entry: Mapping[str, Any], content: str) -> AddedToken:
    # Its lstrip and rstrip take white space, of which BERT keeps nothing anyway.
    special = entry.get("special") is True
    return AddedToken(
        content,
        normalized=bool(entry.get("normalized", not special)),
        single_word=entry.get("single_word") is True,
        special=special,
    )


def _tokens(
    description: Mapping[str, Any],
    added: Mapping[str, tuple[int, AddedToken]],
    folder: Path,
    vocab_size: int,
) -> tuple[list[str], set[str]]:
    """Returns all tokens in order, and those of them that words are split by."""
    by_file: dict[str, dict[str, int]] = {}
    path = folder / VOCAB_FILE
    if path.is_file():
        by_file[VOCAB_FILE] = dict(load_distinct(path))
    if description:
        by_file[TOKENIZER_FILE] = as_object(as_object(description.get("model")).get("vocab"))
    if not by_file:
        raise UserError(f"{folder}: holds neither vocab.txt nor tokenizer.json; expected one")
    numbers = {content: number for content, (number, _) in added.items()}
    orders = {}
    for file, vocab in by_file.items():
        ids = {**vocab, **{t: n for t, n in numbers.items() if t not in vocab}}
        order = sorted(ids, key=lambda token: ids[token])
        if [ids[token] for token in order] != list(range(len(order))):
            raise UserError(
                f"{folder / file}: its ids, with those of added tokens, are not 0 to "
                f"{len(order) - 1:,}; expected each once"
            )
        moved = next((t for t, n in numbers.items() if ids[t] != n), None)
        if moved is not None:
            raise UserError(
                f"{folder / file}: an added token has id {numbers[moved]:,} and is entry "
                f"{ids[moved]:,} of the vocabulary; save the tokenizer again with transformers"
            )
        orders[file] = check_vocabulary(order, folder / file, vocab_size)
    tokens, *others = orders.values()
    if others and others[0] != tokens:
        raise UserError(
            f"{folder}: {VOCAB_FILE} and {TOKENIZER_FILE} hold different vocabularies; keep the "
            "one that the model was trained with"
        )
    base = {*(by_file.get(TOKENIZER_FILE) or by_file[VOCAB_FILE]), *_NAMES}
    if not base.issuperset(tokens[: len(base)]):
        raise UserError(
            f"{folder}: added tokens have ids between those of the vocabulary; expected them after "
            "it; save the tokenizer again with transformers"
        )
    return tokens, base


def _usable(token: AddedToken, outside: bool, tokens: list[str], folder: Path) -> AddedToken:
    """Returns an added token, whose place is known by now.

    Raises:
      UserError: it cannot be found in a text, or has no id.
    """
    if token.content not in tokens:
        raise UserError(
            f"{folder}: names a special token that its vocabulary does not hold; transformers "
            "would give it an id beyond the model's; save the tokenizer again with transformers"
        )
    number = tokens.index(token.content)
    what = f"{folder}: the added token of id {number:,}"
    if not token.content.strip() or token.content != token.content.strip():
        raise UserError(f"{what} is empty, or begins or ends with white space; remove that")
    if len(token.content) > _LONGEST_ADDED:
        raise UserError(f"{what} has more than {_LONGEST_ADDED} characters; expected a word")
    return AddedToken(token.content, token.normalized, token.single_word, token.special, outside)
