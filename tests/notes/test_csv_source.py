"""Notes out of CSV and Parquet: MIMIC's layouts, other tables, and every kind of broken row."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.common.errors import UserError
from data_prep.notes.csv_source import CsvSource
from data_prep.notes.parquet_source import ParquetSource
from data_prep.notes.rows import BadRow, ColumnNames, Gap, Note, Row
from data_prep.notes.sources import open_file
from tests.golden_data import golden

HEADER = "ROW_ID,SUBJECT_ID,HADM_ID,CATEGORY,ISERROR,TEXT\n"


def rows(path: Path, **columns) -> list[Row]:
    return list(open_file(path, ColumnNames(**columns)).rows())


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_golden_notes_equal_what_the_csv_module_reads() -> None:
    path = golden("notes.csv")
    with path.open(newline="") as stream:
        expected = [(r["ROW_ID"], r["SUBJECT_ID"], r["TEXT"]) for r in csv.DictReader(stream)]
    found = rows(path)
    assert [(n.row_id, n.subject_id, n.text) for n in found if isinstance(n, Note)] == expected
    assert len(expected) == 26


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("lower_case", [False, True])
def test_csv(tmp_path: Path, suffix: str, lower_case: bool) -> None:
    header = HEADER.lower() if lower_case else HEADER
    body = (
        '1,7,,Physician ,,"line one\nsays ""no"", C:\\n\\ stays\r\nline three"\n'
        "\n"
        '2,8,9,Nursing/other,1,"entered in error"\n'
        '3,8,9,"Nursing/other",,""\n'
    )
    found = rows(write(tmp_path / f"notes{suffix}", "\ufeff" + header + body))
    assert found == [
        Note("1", "7", "Physician", False, 'line one\nsays "no", C:\\n\\ stays\r\nline three'),
        Note("2", "8", "Nursing/other", True, "entered in error"),
        Note("3", "8", "Nursing/other", False, ""),
    ]


def test_mimic_iv_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "discharge.csv.gz",
        "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n"
        '10000032-DS-21,10000032,22595853,DS,21,2180-05-07 00:00:00,,"Name:  ___"\n',
    )
    assert rows(path) == [Note("10000032-DS-21", "10000032", "DS", False, "Name:  ___")]


def test_named_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "Key,Who,Kind,Body,text\nk1,p1,Letter,Dear,other\n")
    found = rows(path, text="body", category="KIND", row_id="key", subject_id="who")
    assert found == [Note("k1", "p1", "Letter", False, "Dear")]


def test_a_note_of_ten_megabytes(tmp_path: Path) -> None:
    text = "word " * 2_000_000
    path = write(tmp_path / "n.csv", f'{HEADER}1,1,1,A,,"{text}"\n')
    (note,) = rows(path)
    assert isinstance(note, Note)
    assert note.text == text


@pytest.mark.parametrize(
    ("bad", "reason", "place"),
    [
        (b'2,2,2,A,"text"\n', "wrong number of fields", "row 2 (line 3)"),
        (b"2,2,2,A,,text,more\n", "wrong number of fields", "row 2 (line 3)"),
        (b"2,2,2,A,,caf\xe9\n", "undecodable bytes", "row 2 (line 3)"),
        (b'2,2,2,A,,"one\ntwo \xff\nthree"\n', "undecodable bytes", "row 2 (line 3)"),
        (b"2,2,2,A,,nul\0here\n", "null character", "row 2 (line 3)"),
        (b"2,2,2,,,text\n", "null category", "row 2 (line 3)"),
        (b'2,2,2,A,,"closed" early"\n', "broken quoting", "row 2 (line 3)"),
    ],
)
def test_bad_row_is_told_and_only_it_is_lost(
    tmp_path: Path, bad: bytes, reason: str, place: str
) -> None:
    path = write(
        tmp_path / "n.csv",
        HEADER.encode() + b'1,1,1,A,,"first"\n' + bad + b'3,3,3,A,,"third"\n',
    )
    first, wrong, *gap, third = rows(path)
    assert all(isinstance(row, Gap) and row.size_bytes == len(bad) for row in gap)
    assert isinstance(first, Note)
    assert isinstance(third, Note)
    assert (first.text, third.text) == ("first", "third")
    assert isinstance(wrong, BadRow)
    assert wrong.reason == reason
    assert place in wrong.place


def test_unclosed_quote_names_the_row_that_opens_it(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", HEADER + '1,1,1,A,,ok\n2,1,1,A,,"opened\nand never closed\n')
    ok, bad, gap = rows(path)
    assert isinstance(ok, Note)
    assert isinstance(gap, Gap)
    assert gap.size_bytes == len('2,1,1,A,,"opened\nand never closed\n')
    assert isinstance(bad, BadRow)
    assert bad.reason == "broken quoting"
    assert "row 2 (line 3)" in bad.place


def test_missing_subject_is_a_bad_row_only_where_it_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", HEADER + "1,,1,A,,text\n")
    assert isinstance(rows(path)[0], Note)
    (bad,) = rows(path, needs_subject=True)
    assert isinstance(bad, BadRow)
    assert bad.reason == "null subject id"


@pytest.mark.parametrize(
    ("name", "content", "columns", "fragment"),
    [
        ("a.csv", b"", {}, "found no header"),
        ("a.csv", b"ROW_ID,CATEGORY\n1,A\n", {}, "named text"),
        ("a.csv", b"ROW_ID,TEXT\n1,A\n", {}, "--category_column"),
        ("a.csv", b"TEXT,CATEGORY,TEXT\n1,A,2\n", {}, "2 columns are named text"),
        ("a.csv", b"TEXT,CATEGORY\n1,A\n", {"text": "body"}, "--text_column"),
        ("a.csv", b"TEXT,CATEGORY\n1,A\n", {"category": "text"}, "must differ"),
        ("a.csv", b"TEXT,CATEGORY\n1,A\n", {"needs_subject": True}, "--subject_column"),
        ("a.csv", b"TEXT,CAT\xe9GORY\n1,A\n", {}, "header cannot be read"),
        ("a.xlsx", b"PK", {}, "expected .csv, .csv.gz, .parquet"),
        ("a.parquet", b"PAR1 is not enough", {}, "Parquet"),
        ("a.parquet", b"ROW_ID,TEXT\n", {}, "is no Parquet"),
        ("a.csv", b"ROW_ID\tCATEGORY\tTEXT\n1\tA\tx\n", {}, "separated by tabs"),
        ("a.csv", b"ROW_ID;CATEGORY;TEXT\n1;A;x\n", {}, "separated by semicolons"),
        ("a.csv", "TEXT,CATEGORY\n1,A\n".encode("utf-16"), {}, "is UTF-16"),
        ("a.csv", b"TEXT,CATEGORY\r1,A\r", {}, "carriage returns alone"),
        ("a.csv", zlib.compress(b"TEXT,CATEGORY\n1,A\n"), {}, "is zlib"),
        ("a.csv", b"PAR1 and so on", {}, "is Parquet"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes, columns: dict, fragment: str
) -> None:
    with pytest.raises(UserError, match=fragment):
        rows(write(tmp_path / name, content), **columns)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv.gz", HEADER + "1,1,1,A,,text\n" * 5000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="gzip stream ends or breaks after row"):
        rows(path)


@pytest.mark.parametrize("name", ["notes.csv", "notes.csv.gz", "notes.gz", "notes.csv.gzip"])
def test_gzip_is_known_by_its_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(f"{HEADER}1,1,1,A,,text\n".encode()))
    assert rows(path) == [Note("1", "1", "A", False, "text")]


def test_a_name_with_gz_on_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv.gz"
    path.write_text(f"{HEADER}1,1,1,A,,text\n")
    assert rows(path) == [Note("1", "1", "A", False, "text")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["csv", "gzip"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_header_of_a_file_put_behind_another_is_no_note(
    tmp_path: Path, pack: Callable[[bytes], bytes], mark: str
) -> None:
    path = tmp_path / "both.csv"
    first = f"{HEADER}1,1,1,A,,one\n2,1,1,A,,two\n"
    second = f"{mark}{HEADER}3,2,1,A,,three\n"
    path.write_bytes(pack(first.encode()) + pack(second.encode()))
    found = rows(path)
    assert [note.text for note in found] == ["one", "two", "three"]
    source = open_file(path, ColumnNames())
    assert isinstance(source, CsvSource)
    pieces = list(source.cut(lambda _: None, lambda number, rows, size: True))
    assert [piece.row for piece, _ in pieces] == [1, 2, 3]
    assert [row for piece, data in pieces for row in source.rows_of(piece, data)] == found


def test_a_second_header_in_another_order_ends_the_reading(tmp_path: Path) -> None:
    other = "TEXT,ROW_ID,SUBJECT_ID,HADM_ID,CATEGORY,ISERROR\n"
    path = write(tmp_path / "n.csv", f"{HEADER}1,1,1,A,,one\n{other}three,3,2,1,A,\n")
    with pytest.raises(UserError, match=r"row 2 \(line 3\): another header"):
        rows(path)


def test_checksums_of_parquet_pages_are_compared(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    path = tmp_path / "n.parquet"
    table = pa.table({"category": ["A"] * 9, "text": [f"words of note {n}" for n in range(9)]})
    pyarrow.parquet.write_table(
        table, path, write_page_checksum=True, compression="none", use_dictionary=False
    )
    assert len(rows(path)) == 9
    path.write_bytes(path.read_bytes().replace(b"words of note 5", b"wards of note 5", 1))
    with pytest.raises(UserError, match="cannot be read as Parquet after row 0"):
        rows(path)


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(golden("notes.csv"), parse_options=options)
    path = tmp_path / "notes.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=5)
    assert rows(path) == rows(golden("notes.csv"))


def test_parquet_types_and_bad_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    table = pa.table(
        {
            "row_id": [1.0, 2.0, None, 4.0],
            "subject_id": [7, 8, 9, 10],
            "category": ["A", "A", "A", "A"],
            "iserror": [None, 1.0, None, None],
            "text": pa.chunked_array([pa.array(["a", "b", None], pa.string()), broken]),
        }
    )
    path = tmp_path / "n.parquet"
    pyarrow.parquet.write_table(table, path)
    first, second, third, fourth = rows(path)
    assert first == Note("1", "7", "A", False, "a")
    assert second == Note("2", "8", "A", True, "b")
    assert isinstance(third, BadRow)
    assert third.reason == "null text"
    assert isinstance(fourth, BadRow)
    assert fourth.reason == "undecodable bytes"
    assert "row 4" in fourth.place


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("rows_in_piece", [1, 3, 100])
def test_pieces_of_a_csv_give_its_rows(tmp_path: Path, suffix: str, rows_in_piece: int) -> None:
    body = (
        '1,1,1,A,,"two\nlines, ""quoted"""\n'
        "\n\n"
        "2,2,2,A\n"
        "3,3,3,A,,between\n"
        '4,4,4,A,,"closed" early"\n'
        "5,5,5,,,no category\n"
        '6,6,6,"A",1,"µ\r\n\n"\n'
        "7,7,7,A,,last, but one field too many\n"
        "8,8,8,A,,between\n"
        '9,9,9,A,,"never closed\nnor here\n'
    )
    path = write(tmp_path / f"n{suffix}", "\ufeff" + HEADER + body)
    source = open_file(path, ColumnNames())
    assert isinstance(source, CsvSource)
    seen: list[Row] = []
    pieces = list(source.cut(seen.append, lambda number, rows, size: rows == rows_in_piece))
    assert seen == rows(path)
    assert [type(row).__name__ for row in seen] == [
        "Note", "BadRow", "Gap", "Note", "BadRow", "Gap", "Note", "BadRow", "Gap", "Note",
        "BadRow", "Gap",
    ]  # fmt: skip
    assert len(pieces) == {1: 8, 3: 4, 100: 4}[rows_in_piece]
    assert [row for piece, data in pieces for row in source.rows_of(piece, data)] == seen
    if suffix == ".csv":
        assert [source.read(piece) for piece, _ in pieces] == [data for _, data in pieces]
    piece, data = pieces[0]
    with pytest.raises(UserError, match="changed while it was read"):
        list(source.rows_of(piece, data.replace(b"two", b"too")))


def test_pieces_of_a_parquet_file_are_its_row_groups(tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(golden("notes.csv"), parse_options=options)
    path = tmp_path / "notes.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    source = open_file(path, ColumnNames(), io.FileIO)
    assert isinstance(source, ParquetSource)
    pieces = list(source.pieces())
    assert [piece.row for piece in pieces] == [1, 8, 15, 22]
    # The last first: none needs those before it.
    found = [list(source.rows_of(piece)) for piece in reversed(pieces)]
    assert [row for part in reversed(found) for row in part] == rows(path)
