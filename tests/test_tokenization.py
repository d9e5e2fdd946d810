"""Tokenization against the answers of Google's `FullTokenizer`, and the fast path against ours."""

import gzip
import json
import random

import numpy as np
import pytest

from bert_clinical import tokenization
from data_prep.common.program import UserError
from tests.golden_data import golden


@pytest.fixture(scope="module")
def tokenizers():
    return {
        lower: tokenization.FullTokenizer(golden(f"vocab_{'un' * lower}cased.txt"), lower)
        for lower in (False, True)
    }


def golden_texts():
    with gzip.open(golden("tokens_small.jsonl.gz"), "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def fast_ids(encoder, text, dtype=np.uint16):
    return np.frombuffer(encoder.encode(text)[0], dtype).tolist()


def test_golden_ids(tokenizers):
    texts = golden_texts()
    assert len(texts) == 1500
    for case in texts:
        tokenizer = tokenizers[case["lower"]]
        tokens = tokenizer.tokenize(case["text"])
        assert tokenizer.convert_tokens_to_ids(tokens) == case["ids"]
        assert tokenizer.convert_ids_to_tokens(case["ids"]) == tokens


def test_fast_path_gives_the_golden_ids(tokenizers):
    # A cache of seven entries is emptied all the time, one of 250,000 never.
    for limit in (7, 250_000):
        encoders = {
            lower: tokenization.LineEncoder(tokenizer, typecode="H", max_cached=limit)
            for lower, tokenizer in tokenizers.items()
        }
        for case in golden_texts():
            assert fast_ids(encoders[case["lower"]], case["text"]) == case["ids"]


# Characters at which cleaning, splitting, lower-casing or normalization does something of its own.
_ODD = (
    "\x00\t\r\x0b\x0c\x1c\x1f\x7f\x85\xa0\xad\u0301\u0345\u200b\u2028\u2029\u3000\ufeff\ufffd"
    "ÄäßµºİıſΣσςÅﬁﬀＡ①²½中文㐀豈𠀀가힣ᄀ‘’“”–…·¿§°±×÷~^`$|<>=+[MASK]#@_*()"
    "\ud7ff\ue000\U0001f600\U0010ffff\u1fff\u0378"
)


def test_fast_path_on_random_text(tokenizers):
    rng = random.Random(7)
    alphabet = _ODD + " " * 25 + "aAbBeEiInNoOsStT0123456789" * 2
    encoders = {
        lower: tokenization.LineEncoder(tokenizer, typecode="I")
        for lower, tokenizer in tokenizers.items()
    }
    for _ in range(3000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(60)))
        for lower, tokenizer in tokenizers.items():
            expected = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
            assert fast_ids(encoders[lower], text, np.uint32) == expected, ascii(text)


def test_fast_path_at_the_border_of_long_words(tokenizers):
    tokenizer = tokenizers[False]
    encoder = tokenization.LineEncoder(tokenizer, typecode="H")
    for length in (63, 64, 65, 199, 200, 201, 5000):
        text = "a" * length + " " + "a1." * length
        assert fast_ids(encoder, text) == tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    assert tokenizer.tokenize("a" * 201) == ["[UNK]"]
    assert tokenizer.tokenize("a" * 200) != ["[UNK]"]


def test_words_are_counted_between_spaces(tokenizers):
    encoder = tokenization.LineEncoder(tokenizers[False])
    for text, words in (("", 0), ("  ", 0), ("a", 1), (" a  b ", 2), ("a\tb c", 2)):
        assert encoder.encode(text)[1] == words


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


def test_special_tokens_are_required(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[CLS]\n[UNK]\n")
    with pytest.raises(UserError, match=r"--vocab_file: .* 2 entries, but \[SEP\], \[MASK\] not"):
        tokenization.require_usable_vocab(path, do_lower_case=True)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("vocab_lower", [False, True])
def test_wrong_casing_is_warned_of(lower, vocab_lower, caplog):
    tokenization.require_usable_vocab(golden(f"vocab_{'un' * vocab_lower}cased.txt"), lower)
    assert [f"--do_lower_case={str(vocab_lower).lower()}" in m for m in caplog.messages] == (
        [True] if lower != vocab_lower else []
    )


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
