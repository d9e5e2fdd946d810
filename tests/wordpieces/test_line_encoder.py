"""The fast way to the ids against the golden ids and against `FullTokenizer`."""

import random

import numpy as np
import pytest

from bert_clinical.wordpieces.line_encoder import LineEncoder
from tests.golden_texts import golden_texts, golden_tokenizers


@pytest.fixture(scope="module")
def tokenizers():
    return golden_tokenizers()


def fast_ids(encoder, text, dtype=np.uint16):
    return np.frombuffer(encoder.encode(text)[0], dtype).tolist()


def test_fast_path_gives_the_golden_ids(tokenizers):
    # A cache of seven entries is emptied all the time, one of 250,000 never.
    for limit in (7, 250_000):
        encoders = {
            lower: LineEncoder(tokenizer, typecode="H", max_cached=limit)
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
        lower: LineEncoder(tokenizer, typecode="I") for lower, tokenizer in tokenizers.items()
    }
    for _ in range(3000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(60)))
        for lower, tokenizer in tokenizers.items():
            expected = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
            assert fast_ids(encoders[lower], text, np.uint32) == expected, ascii(text)


def test_fast_path_at_the_border_of_long_words(tokenizers):
    tokenizer = tokenizers[False]
    encoder = LineEncoder(tokenizer, typecode="H")
    for length in (63, 64, 65, 199, 200, 201, 5000):
        text = "a" * length + " " + "a1." * length
        assert fast_ids(encoder, text) == tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    assert tokenizer.tokenize("a" * 201) == ["[UNK]"]
    assert tokenizer.tokenize("a" * 200) != ["[UNK]"]


def test_words_are_counted_between_spaces(tokenizers):
    encoder = LineEncoder(tokenizers[False])
    for text, words in (("", 0), ("  ", 0), ("a", 1), (" a  b ", 2), ("a\tb c", 2)):
        assert encoder.encode(text)[1] == words
