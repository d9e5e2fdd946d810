"""What the written tokenizer is known to do otherwise than the one that training uses."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_clinical.tokenization import BasicTokenizer
from bert_clinical.weights.transformers_tokenizer import known_differences, write_tokenizer
from bert_clinical.wordpieces.model_tokenizer import TokenizerRules
from data_prep.common.atomic_files import naming
from tests.full_disk import files_up_to

PRIVATE = [range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)]
IDEOGRAPHS = range(0x2B820, 0x2B920)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(params=[False, True], ids=["cased", "uncased"])
def pair(request, tmp_path: Path):
    """Both as functions from a text to its words, before the vocabulary, and the casing."""
    write_tokenizer(tmp_path, SPECIAL, rules=TokenizerRules(request.param), max_length=41)
    written = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    def theirs(text: str) -> list[str]:
        normal = written.normalizer.normalize_str(text)
        return [word for word, _ in written.pre_tokenizer.pre_tokenize_str(normal)]

    return theirs, BasicTokenizer(request.param).tokenize, request.param


def differing(pair, codes) -> list[int]:
    theirs, ours, _ = pair
    return [code for code in codes if theirs(f"a{chr(code)}b") != ours(f"a{chr(code)}b")]


def test_private_use_and_the_late_ideographs(pair) -> None:
    edges = {code for block in PRIVATE for code in (block[0], block[len(block) // 2], block[-1])}
    assert differing(pair, sorted({*edges, 0xF0B7})) == sorted({*edges, 0xF0B7})
    theirs, ours, lower = pair
    assert theirs("\uf0b7 Aspirin"[0:1]) == []
    assert ours("\uf0b7") == ["\uf0b7"]
    around = range(IDEOGRAPHS[0] - 9, IDEOGRAPHS[-1] + 9)
    assert differing(pair, around) == list(IDEOGRAPHS)
    assert (theirs("ΑΣ") != ours("ΑΣ")) == lower
    assert ("sigma" in " ".join(known_differences(lower))) == lower


def test_whatever_else_differs_is_of_new_scripts(pair) -> None:
    known = {code for block in PRIVATE for code in block} | set(IDEOGRAPHS)
    codes = [
        code
        for code in range(0x30000)
        if not 0xD800 <= code < 0xE000
        and code not in known
        and unicodedata.category(chr(code))[0] in "PSCM"
        and unicodedata.category(chr(code)) != "Cn"
    ]
    found = differing(pair, codes)
    assert 0x166D in found
    kinds = Counter(unicodedata.category(chr(code))[0] for code in found)
    assert sum(kinds.values()) < 1000
    assert kinds["P"] + kinds["C"] + kinds["S"] < 300
    # None in Latin, Greek, Cyrillic, general punctuation or anything else that a note may hold.
    assert not [code for code in found if code < 0x600 or 0x1E00 <= code < 0x2E00]


def test_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    # The vocabulary has room, `tokenizer.json` has none.
    with (
        pytest.raises(OSError, match="File too large") as failure,
        files_up_to(500),
        naming(tmp_path),
    ):
        write_tokenizer(tmp_path, SPECIAL, rules=TokenizerRules(False), max_length=41)
    assert failure.value.filename == str(tmp_path)
    assert (tmp_path / "tokenizer.json").stat().st_size <= 500
    assert not (tmp_path / "tokenizer_config.json").exists()
