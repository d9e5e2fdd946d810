"""Tokenization against the answers of Google's `FullTokenizer`."""

import pytest

from bert_clinical import tokenization
from data_prep.common.errors import UserError
from tests.golden_texts import golden_texts, golden_tokenizers


@pytest.fixture(scope="module")
def tokenizers():
    return golden_tokenizers()


def test_golden_ids(tokenizers):
    texts = golden_texts()
    assert len(texts) == 1500
    for case in texts:
        tokenizer = tokenizers[case["lower"]]
        tokens = tokenizer.tokenize(case["text"])
        assert tokenizer.convert_tokens_to_ids(tokens) == case["ids"]
        assert tokenizer.convert_ids_to_tokens(case["ids"]) == tokens


@pytest.mark.parametrize(
    ("text", "lower", "expected"),
    [
        (" \tHeLLo!how  \n Are yoU? ", True, ["hello", "!", "how", "are", "you", "?"]),
        (" \tHeLLo!how  \n Are yoU? ", False, ["HeLLo", "!", "how", "Are", "yoU", "?"]),
        ("H\u00e9llo", True, ["hello"]),
        ("H\u00e9llo", False, ["H\u00e9llo"]),
        ("ah\u535a\u63a8zz", True, ["ah", "\u535a", "\u63a8", "zz"]),
        ("[MASK]", True, ["[", "mask", "]"]),
        ("a\u200bb\x00c\ufffdd", False, ["abcd"]),
        ("a\u2028b", False, ["a", "b"]),
        ("[**2101-3-4**]", False, [*"[**", "2101", "-", "3", "-", "4", *"**]"]),
    ],
)  # fmt: skip
def test_basic_tokenizer(text, lower, expected):
    assert tokenization.BasicTokenizer(do_lower_case=lower).tokenize(text) == expected


def test_wordpiece_tokenizer():
    pieces = ["[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing"]
    tokenizer = tokenization.WordpieceTokenizer(vocab={p: i for i, p in enumerate(pieces)})
    assert tokenizer.tokenize("") == []
    assert tokenizer.tokenize("unwanted running") == ["un", "##want", "##ed", "runn", "##ing"]
    assert tokenizer.tokenize("unwantedX running") == ["[UNK]", "runn", "##ing"]
    short = tokenization.WordpieceTokenizer(tokenizer.vocab, "?", max_input_chars_per_word=3)
    assert short.tokenize("want") == ["?"]


def test_vocabulary_keeps_first_place_and_last_number(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"b\n a \n\nb\r\nc\x0bd\n")
    vocab = tokenization.load_vocab(path)
    assert list(vocab.items()) == [("b", 3), ("a", 1), ("", 2), ("c\x0bd", 4)]


def test_vocabulary_that_is_no_text(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"a\nb\xff\n")
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        tokenization.load_vocab(path)


def test_module_functions():
    vocab = {"[UNK]": 0, "a": 1}
    assert tokenization.convert_tokens_to_ids(vocab, ["a", "[UNK]"]) == [1, 0]
    assert tokenization.convert_ids_to_tokens({0: "[UNK]", 1: "a"}, [1]) == ["a"]
    assert tokenization.convert_by_vocab(vocab, ["a"]) == [1]
    with pytest.raises(KeyError):
        tokenization.convert_tokens_to_ids(vocab, ["b"])
    assert tokenization.whitespace_tokenize(" a \u2003b\n") == ["a", "b"]
    assert tokenization.convert_to_unicode("é".encode() + b"\xff") == "é"
    assert tokenization.printable_text(b"ab") == "ab"
    with pytest.raises(ValueError, match="int"):
        tokenization.convert_to_unicode(3)


@pytest.mark.parametrize(
    ("lower", "checkpoint", "right"),
    [
        (True, "x/uncased_L-12_H-768_A-12/bert_model.ckpt", True),
        (False, "x/uncased_L-12_H-768_A-12/bert_model.ckpt", False),
        (True, "x/cased_L-12_H-768_A-12/bert_model.ckpt", False),
        (False, "x/cased_L-12_H-768_A-12/bert_model.ckpt", True),
        (True, "x/biobert/biobert_model.ckpt", True),
        (True, None, True),
    ],
)
def test_case_against_the_name_of_the_checkpoint(lower, checkpoint, right):
    if right:
        tokenization.validate_case_matches_checkpoint(lower, checkpoint)
    else:
        with pytest.raises(ValueError, match="do_lower_case"):
            tokenization.validate_case_matches_checkpoint(lower, checkpoint)
