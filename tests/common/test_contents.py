"""What a file is by its bytes: gzip is read, everything else that is no plain text is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_clinical.tasks.data import numbered_lines
from bert_clinical.tokenization import load_vocab
from bert_clinical.wordpieces.inputs import read_lines
from data_prep.common import contents
from data_prep.common.errors import UserError
from data_prep.common.hashed_text import HashedText

TEXT = "The patient was seen.\nShe was well.\n\nµ of text, tabs\tand; semicolons\n"
FORMS = {
    "zlib-compressed": zlib.compress(TEXT.encode()),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16LE without a byte order mark": TEXT.encode("utf-16-le"),
    "UTF-16BE without a byte order mark": TEXT.encode("utf-16-be"),
    "UTF-32": TEXT.encode("utf-32"),
    "carriage returns alone": TEXT.replace("\n", "\r").encode(),
    "zip archive": b"PK\3\4 and so on",
    "bzip2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "Parquet": b"PAR1\n",
}


def hashed(path: Path) -> list[str]:
    with HashedText(path) as text:
        return list(text.lines())


READERS: dict[str, Callable[[Path], object]] = {
    "pretraining text": hashed,
    "texts": lambda path: list(read_lines(path)),
    "data of a task": lambda path: list(numbered_lines(path)),
    "vocabulary": load_vocab,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_text_is_named(tmp_path: Path, reader: str, form: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(FORMS[form])
    with pytest.raises(UserError, match=rf"file\.txt: .*{form}"):
        READERS[reader](path)


@pytest.mark.parametrize("name", ["a.txt", "a.gz"])
@pytest.mark.parametrize("reader", sorted(set(READERS) - {"vocabulary"}))
def test_gzip_is_read_whatever_its_name(tmp_path: Path, reader: str, name: str) -> None:
    (tmp_path / "plain").mkdir()
    plain, packed = tmp_path / "plain" / name, tmp_path / name
    plain.write_text(TEXT)
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert READERS[reader](packed) == READERS[reader](plain)


def test_a_vocabulary_in_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(gzip.compress(b"[UNK]\n"))
    with pytest.raises(UserError, match=r"vocab\.txt: is gzip; .*gunzip"):
        load_vocab(path)


@pytest.mark.parametrize(
    "text", ["x^2 is a text that begins like zlib\n", "one line\r", "one\rtwo\n", "", "a"]
)
def test_text_is_not_taken_for_another_thing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    contents.require_text(str(path), contents.look_at(str(path)))


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"vocabulary"}))
def test_a_gzip_without_line_feeds_does_not_fill_the_memory(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", 9) as stream:
        for _ in range(40):
            stream.write(b"word " * 200_000)
    with pytest.raises(UserError, match=r"bomb\.gz, line 1: longer than 8 MB"):
        READERS[reader](path)


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"vocabulary"}))
def test_a_cut_gzip_names_itself(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 5000)[:-20])
    with pytest.raises(UserError, match=r"cut\.gz: the gzip file is cut short or corrupt"):
        READERS[reader](path)


def test_carriage_returns_are_dropped_as_by_googles_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\rpart of line\r\n\r\r\nnext\r\n \r \nend\n\r\r")
    assert hashed(path) == ["firstpart of line", "", "next", "", "end"]
    path.write_bytes(b"[UNK]\r\n##a\rb\n\r\nend\n\r")
    assert load_vocab(path) == {"[UNK]": 0, "##ab": 1, "": 2, "end": 3}
