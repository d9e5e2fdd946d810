"""create_vocab: entries that can occur, the same each time, mistakes."""

import gzip
import os
import unicodedata

import pytest

from bert_clinical import tokenization
from bert_clinical.wordpieces.learning import count_words, learn_vocabulary
from bert_clinical.wordpieces.vocabulary import SPECIAL_TOKENS
from data_prep.common.errors import UserError
from tests import full_disk
from tests.golden_data import golden
from tests.running import assert_one_line_error, assert_success, run_here, run_program

MODULE = "bert_clinical.create_vocab"
PLANTED = "Zanzibarquux"
ODD = (
    "Ärzte ÅÉ Straße ςΣ İstanbul 中文字 ²½ a\u0301e\u0308 ’s naïve\u200b x\u00a0y ﬁx K² ### [UNK]\n"
)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    clinical = golden("sentences_en_core_web_sm.txt").read_text()
    path.write_text(clinical + ODD * 3, encoding="utf-8")
    return path


def learned(text, lower, **options):
    words = count_words(input_files=[text], do_lower_case=lower)
    return learn_vocabulary(words, **{"vocab_size": 1200, **options})


@pytest.mark.parametrize("lower", [False, True])
def test_every_entry_can_occur(text, lower, tmp_path):
    entries = learned(text, lower)
    assert len(entries) == len(set(entries)) == 1200
    assert tuple(entries[:5]) == SPECIAL_TOKENS
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    tokenizer = tokenization.FullTokenizer(path, lower)
    assert list(tokenizer.vocab) == entries
    beginnings = [entry for entry in entries[5:] if not entry.startswith("##")]
    for entry in entries[5:]:
        if entry.startswith("##") and entry != "##":
            words = (beginning + entry[2:] for beginning in beginnings)
            assert any(entry in tokenizer.tokenize(word) for word in words), entry
        else:
            assert tokenizer.tokenize(entry) == [entry]


@pytest.mark.parametrize("lower", [False, True])
def test_the_text_is_spelled(text, lower, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{e}\n" for e in learned(text, lower)), encoding="utf-8")
    tokenizer = tokenization.FullTokenizer(path, lower)
    for line in text.read_text(encoding="utf-8").split("\n"):
        assert "[UNK]" not in tokenizer.tokenize(line)
    if lower:
        for entry in list(tokenizer.vocab)[5:]:
            assert entry == entry.lower()
            assert not any(unicodedata.category(c) == "Mn" for c in entry)


def test_words_are_those_of_the_basic_tokenizer(text):
    for lower in (False, True):
        basic = tokenization.BasicTokenizer(lower)
        expected = {}
        for line in text.read_text(encoding="utf-8").split("\n"):
            for word in basic.tokenize(line):
                expected[word] = expected.get(word, 0) + 1
        assert count_words(input_files=[text], do_lower_case=lower) == expected
        # Emptying the first counter all the time changes nothing.
        few = count_words(input_files=[text, text], do_lower_case=lower, most_words=len(expected))
        assert few == {word: 2 * count for word, count in expected.items()}


def test_memory_is_bounded(text):
    words = count_words(input_files=[text], do_lower_case=True, most_words=300)
    assert len(words) <= 300
    assert words["the"] > 50


def test_frequency_and_alphabet(text):
    rare = learned(text, False, vocab_size=100_000, min_frequency=5)
    assert len(rare) < len(learned(text, False, vocab_size=100_000, min_frequency=1))
    few = learned(text, False, limit_alphabet=30, vocab_size=500)
    assert len({c for entry in few[5:] for c in entry.removeprefix("##")}) == 30
    assert "e" in few
    assert "中" not in few


def test_long_words_are_left_out():
    entries = learn_vocabulary({"a" * 201: 1000, "b" * 200: 10}, vocab_size=100)
    assert "##aa" not in entries
    assert "##bb" in entries


def test_punctuation_continues_nothing():
    entries = learn_vocabulary({"a": 5, ".": 9, "ab": 4}, vocab_size=100)
    assert entries == [*SPECIAL_TOKENS, ".", "a", "b", "##b", "ab"]


@pytest.mark.parametrize(
    ("words", "size", "what"),
    [({}, 100, "found no words"), ({"ab": 3}, 7, "--vocab_size is 7, but 5 .* take 8 entries")],
)
def test_impossible_vocabularies(words, size, what):
    with pytest.raises(UserError, match=what):
        learn_vocabulary(words, vocab_size=size)


def test_same_text_same_vocabulary_whatever_the_threads(text, tmp_path):
    with gzip.open(tmp_path / "text.txt.gz", "wb") as stream:
        stream.write(text.read_bytes())
    made = []
    for threads, name in ((1, "text.txt"), (2, "text.txt"), (7, "text.txt.gz")):
        output = tmp_path / "new" / "vocab.txt"
        result = run_program(
            MODULE, input_file=tmp_path / name, output_file=output, vocab_size=2000,
            do_lower_case="false",
            env={"RAYON_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads)},
        )  # fmt: skip
        assert_success(result)
        assert result.stderr == ""
        made.append(output.read_bytes())
    assert made[0] == made[1] == made[2]
    assert [path.name for path in output.parent.iterdir()] == ["vocab.txt"]
    assert made[0].startswith(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    assert made[0].count(b"\n") == 2000


@pytest.mark.parametrize("lower", [False, True])
def test_an_uncased_vocabulary_says_so(text, tmp_path, lower, capsys):
    text.write_text(text.read_text().lower())
    result = run_here(
        capsys, MODULE, input_file=text, output_file=tmp_path / "v.txt", vocab_size=600,
        do_lower_case=lower,
    )  # fmt: skip
    assert_success(result)
    assert ("none of 595 entries holds a capital" in result.stderr) == (not lower)


def test_mistakes(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(f"{PLANTED} is here . " * 5)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(f"one\n{PLANTED} \xe9\n".encode("latin-1"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(PLANTED.encode())[:-5])
    table = [
        ({"input_file": None}, 2, ["input_file"]),
        ({"output_file": None}, 2, ["output_file"]),
        ({"vocab_size": 0}, 2, ["--vocab_size is 0"]),
        ({"vocab_size": "many"}, 2, ["vocab_size"]),
        ({"min_frequency": -1}, 2, ["--min_frequency is -1"]),
        ({"limit_alphabet": 0}, 2, ["--limit_alphabet is 0"]),
        ({"vocabulary_size": 100}, 2, ["vocabulary_size"]),
        ({"vocab_size": 12}, 1, ["--vocab_size is 12", "--limit_alphabet"]),
        ({"input_file": tmp_path / "nowhere.txt"}, 1, ["nowhere.txt"]),
        ({"input_file": tmp_path / "x*"}, 1, ["no file matches"]),
        ({"input_file": text / "vocab.txt"}, 1, ["vocab.txt: Not a directory"]),
        ({"input_file": tmp_path / "empty.txt"}, 1, ["no words"]),
        ({"input_file": tmp_path / "latin.txt"}, 1, ["latin.txt, line 2: not UTF-8"]),
        ({"input_file": tmp_path / "cut.gz"}, 1, ["cut.gz", "gzip"]),
        ({"output_file": text}, 1, ["is an input too"]),
        ({"output_file": tmp_path}, 1, ["is a folder"]),
        ({"output_file": text / "vocab.txt"}, 1, [f"--output_file: {text} is a file; a folder"]),
    ]
    names = {path.name for path in tmp_path.iterdir()}
    for flags, status, fragments in table:
        good = {"input_file": text, "output_file": tmp_path / "vocab.txt", "vocab_size": 100}
        result = run_program(MODULE, **{**good, **flags})
        assert_one_line_error(result, status, *fragments)
        assert PLANTED.lower() not in (result.stdout + result.stderr).lower()
        assert {path.name for path in tmp_path.iterdir()} == names


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text(f"{PLANTED} is here . " * 5)
    monkeypatch.setattr(os, "fdopen", full_disk.fdopen("vocab.txt"))
    flags = {"input_file": text, "output_file": tmp_path / "vocab.txt", "vocab_size": 100}
    result = run_here(capsys, MODULE, **flags)
    assert_one_line_error(result, 1, "vocab.txt: No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_a_vocabulary_serves_create_pretraining_data(text, tmp_path):
    vocab = tmp_path / "vocab.txt"
    result = run_program(MODULE, input_file=text, output_file=vocab, vocab_size=1500)
    assert_success(result)
    assert "study" not in result.stdout
    result = run_program(
        "bert_clinical.create_pretraining_data", "--stats_only", input_file=text, vocab_file=vocab
    )
    assert_success(result)
    assert "0.00% [UNK]" in result.stdout
    assert result.stderr == ""
