"""After a row that cannot be read: nothing from inside a note, and no row lost without need."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from data_prep.notes.csv_lines import LONGEST_RECORD
from data_prep.notes.csv_source import CsvSource
from data_prep.notes.csv_starts import WINDOW_BYTES
from data_prep.notes.rows import BadRow, ColumnNames, Gap, Note, Row
from data_prep.notes.sources import open_file
from tests.damaged.broken_rows import LAYOUTS, read_broken

HEADER = "ROW_ID,SUBJECT_ID,CATEGORY,TEXT\n"
PLANTED = "ZEBRAWORD"
GOOD = 'Seen.\nMeds, asa, lasix, colace\nHe said ""no"" today.'


def read(folder: Path, body: str, header: str = HEADER) -> list[Row]:
    path = folder / "n.csv"
    path.write_bytes((header + body).encode())
    return list(open_file(path, ColumnNames()).rows())


def row(number: int, text: str = GOOD, category: str = "Discharge summary") -> str:
    return f'{number},{number},{category},"{text}"\n'


def ids(found: list[Row]) -> list[str]:
    return [one.row_id for one in found if isinstance(one, Note)]


BROKEN = {
    "quotes with backslashes": f'He said \\"no\\".\nMeds, asa, {PLANTED}, lasix\nHome, with wife.',
    "quotes not doubled": f'He said "no".\nMeds,asa,{PLANTED},lasix\nend',
    "a line with quotes like a row": f'He said "no".\nMeds,asa,"{PLANTED}",lasix\nend',
    "numbers like a row": f'He said "no".\n7,8,{PLANTED},"lasix"\nend',
    "a row put in": f'He said "no".\n5,5,Discharge summary,"{PLANTED}"\nend',
    "a row put in, of a far number": f'He said "no".\n99,99,Discharge summary,"{PLANTED}"\nend',
    "a row put in at the end": f'He said "no".\n99,99,Discharge summary,"{PLANTED}',
    "two rows put in": f'He said "no".\n5,5,Discharge summary,"{PLANTED}"\n'
    f'6,6,Discharge summary,"{PLANTED} "and" more',
    "its own number again": f'He said "no".\n4,4,Discharge summary,"{PLANTED}',
    "a lone quote": f'5" of snow\nMeds, asa, {PLANTED}, lasix',
    "a line feed behind a quote": f'x"\n{PLANTED}, a, b, c\n\n{PLANTED}',
}


AT_THE_END = ("a row put in at the end", "two rows put in")
"""What cannot be told from rows where the file ends with it."""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (place, kind)
        for place in ("first", "middle", "last")
        for kind in BROKEN
        if not (place == "last" and kind in AT_THE_END)
    ],
)
def test_nothing_from_inside_a_broken_note(tmp_path: Path, kind: str, place: str) -> None:
    before, after = {"first": (0, 8), "middle": (4, 8), "last": (4, 4)}[place]
    numbers = [*range(before), *range(before + 1, after + 1)]
    body = "".join(row(n) for n in range(before))
    body += row(before, BROKEN[kind])
    body += "".join(row(n) for n in range(before + 1, after + 1))
    found = read(tmp_path, body)
    assert PLANTED not in "".join(map(str, found)), found
    bad = [one for one in found if isinstance(one, BadRow)]
    assert len(bad) == 1
    if kind == "a line feed behind a quote":
        # As much of the note as its row seems to hold.
        numbers.insert(before, before)
    else:
        assert f"row {before + 1} (line {before * 3 + 2})" in bad[0].place
    assert set(ids(found)) <= set(map(str, numbers))
    # Whatever came before is kept, and of what comes after all but a row or two.
    kept = ids(found)
    assert kept[:before] == [str(n) for n in range(before)]
    if place != "last":
        assert len(kept) >= len(numbers) - 2
        assert kept[-1] == str(after)


def test_the_case_that_was_reported(tmp_path: Path) -> None:
    text = 'He said \\"no\\" to rehab.\nMeds, asa, ZEBRAWORD Ellwood, lasix\nHome, with wife.'
    body = "".join(row(n, text if n % 3 == 0 else GOOD) for n in range(12))
    found = read(tmp_path, body)
    assert ids(found) == ["1", "2", "4", "5", "7", "8", "10", "11"]
    bad = [one for one in found if isinstance(one, BadRow)]
    assert [one.place.split(": ")[-1].split(" (")[0] for one in bad] == [
        "row 1", "row 4", "row 7", "row 10",
    ]  # fmt: skip
    gaps = [one.size_bytes for one in found if isinstance(one, Gap)]
    assert gaps == [len(row(n, text)) for n in (0, 3, 6, 9)]


@pytest.mark.parametrize("header", ["note_id,category,text\n", "ROW_ID,SUBJECT_ID,CATEGORY,TEXT\n"])
def test_without_numbers_that_rise_the_reading_ends(tmp_path: Path, header: str) -> None:
    start = "{0}" if header.startswith("note") else "{0},{0}"
    names = ["b", "c", "a"] if header.startswith("note") else [9, 8, 7]
    rows = [f'{start.format(name)},A,"text"\n' for name in names]
    bad = f'{start.format(names[1])},A,"he said "no"."\n'
    found = read(tmp_path, rows[0] + rows[1] + bad + rows[2], header)
    assert len(ids(found)) == 2
    assert isinstance(found[-1], Gap)
    assert found[-1].size_bytes == len(bad) + len(rows[2])


def test_an_unknown_category_is_no_start(tmp_path: Path) -> None:
    body = row(0) + row(1, 'a "b" c') + row(2, category=PLANTED) + row(3)
    found = read(tmp_path, body)
    assert ids(found) == ["0", "3"]
    assert PLANTED not in str(found)


def test_rows_of_a_new_category_wait_and_come(tmp_path: Path) -> None:
    body = "".join(row(n, category="A" if n < 3 else "B") for n in range(300))
    assert ids(read(tmp_path, body)) == [str(n) for n in range(300)]
    body = row(0) + row(1, category="B") + row(2) + "x1,x2,Letter,text\n"
    assert ids(read(tmp_path, body)) == ["0", "1", "2", "x1"]


def test_lines_that_look_like_rows_of_another_kind_go_with_the_broken_one(tmp_path: Path) -> None:
    inner = f"5'2\"\n7,8,{PLANTED},9\n{PLANTED},a,b,c\n\xff,a,b,c\n8,9,10,{PLANTED}"
    found = read(tmp_path, row(0) + row(1) + row(2, inner) + row(3) + row(4))
    assert ids(found) == ["0", "1", "2", "3", "4"]
    assert PLANTED not in str(found)
    assert sum(isinstance(one, BadRow) for one in found) == 1


def test_row_numbers_are_told_only_where_they_are_known(tmp_path: Path) -> None:
    known = row(0) + row(1, 'a "b" c') + row(2) + "3,3,A\n"
    assert "row 4 (line 9)" in str(read(tmp_path, known))
    # What an open quote swallows may be one row or several.
    unknown = (
        row(0)
        + '1,1,Discharge summary,"open\n'
        + row(2, "x", "Other")
        + row(3)
        + "4,4,Discharge summary\n"
    )
    found = read(tmp_path, unknown)
    assert ids(found) == ["0", "3"]
    (_, last) = (one for one in found if isinstance(one, BadRow))
    assert last.place.endswith("n.csv: line 10")


def test_a_long_file_goes_on_behind_the_window(tmp_path: Path) -> None:
    text = "word " * 200
    body = "".join(row(n, text if n != 50 else 'a "b" c') for n in range(1000))
    assert len(body) > 4 * WINDOW_BYTES
    found = read(tmp_path, body)
    assert ids(found) == [str(n) for n in range(1000) if n != 50]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_damage_at_random_tells_nothing(tmp_path: Path, ending: str) -> None:
    rng = random.Random(5)
    seen = 0
    for _ in range(60):
        bad = rng.randrange(1, 9)
        rows = [row(n, GOOD.replace("Seen", f"Seen {n}")) for n in range(10)]
        broken = row(bad, f"{PLANTED}, {PLANTED}, c, d\n{GOOD}")
        place = rng.randrange(len(broken) - 1)
        rows[bad] = broken[:place] + rng.choice(['"', "", '",', '"\n']) + broken[place + 1 :]
        found = read(tmp_path, "".join(rows).replace("\n", ending))
        damaged = any(isinstance(one, Gap) for one in found)
        seen += damaged
        notes = [one for one in found if isinstance(one, Note)]
        for note in notes:
            whole = note.row_id == str(bad)
            assert whole or PLANTED not in str(note)
            assert PLANTED not in note.category
        if damaged:
            assert len(notes) >= 8
    assert seen > 20


def test_a_gzip_without_line_feeds_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", 9) as stream:
        stream.write(HEADER.encode() + b"".join(b"%d,1,A,ok\n" % n for n in range(8)) + b"8,2,A,")
        for _ in range(LONGEST_RECORD // 1_000_000 + 20):
            stream.write(b"word " * 200_000)
        stream.write(b"\n9,3,A,ok\n")
    *good, bad, gap, last = open_file(path, ColumnNames()).rows()
    assert isinstance(bad, BadRow)
    assert bad.reason == "field too long"
    assert isinstance(gap, Gap)
    assert gap.size_bytes > LONGEST_RECORD
    assert ids([*good, last]) == [*map(str, range(8)), "9"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_faults_make_no_line_of_a_note_a_row(tmp_path: Path, layout: str) -> None:
    rng = random.Random(layout)
    kept = total = 0
    for _ in range(40):
        found = read_broken(LAYOUTS[layout], rng, tmp_path)
        assert not found.from_inside, found.content
        # A worker reads a piece without the rows before it, and finds the same.
        source = CsvSource(tmp_path / "n.csv", LAYOUTS[layout].columns)
        pieces = source.cut(lambda _: None, lambda number, rows, size: rows >= 4)
        assert [one for piece in pieces for one in source.rows_of(*piece)] == found.rows
        kept += len(found.rows)
        total += found.num_rows
    assert kept > total / 3


HELD_ROWS = "".join(row(n) for n in range(8))


@pytest.mark.parametrize(
    ("before", "broken"),
    [
        # The first quote of a doubled one is lost in a line that is a row, but for that.
        (HELD_ROWS, f'8,8,Discharge summary,"Seen.\n9,2,Discharge summary,"{PLANTED}""\nend"\n'),
        # A note ends too early, and its last line is a row whose number was before.
        (HELD_ROWS, f'8,8,Discharge summary,"Seen."\n0,2,Discharge summary,{PLANTED}"\n'),
        (row(0), f'1,1,Discharge summary,"Seen."\n0,2,Discharge summary,{PLANTED}"\nend"\n'),
        # A row that waits, and a broken one that takes it along.
        (
            "",
            f'0,0,Discharge summary,Seen.\n9,2,Letter,x\nasa\n5,2,Discharge summary,{PLANTED}\n"\n',
        ),
        # So soon that little is known of the file.
        (
            row(0) + row(0),
            f'1,1,Discharge summary,"Seen."\n7,2,Discharge summary,{PLANTED}\nend"\n',
        ),
        (row(0), f'1,1,Discharge summary,\\"Seen.\n7,2,Discharge summary,{PLANTED}\nend"\n'),
        # The opening quote of the first note is lost.
        ("", f'0,0,Discharge summary,Seen.\nasa; lasix\n5,2,Discharge summary,{PLANTED}\nend"\n'),
    ],
)
def test_a_row_in_a_note_is_no_row(tmp_path: Path, before: str, broken: str) -> None:
    found = read(tmp_path, before + broken + row(10) + row(11) + row(12))
    assert PLANTED not in str(found)
    assert ids(found)[-2:] == ["11", "12"]


@pytest.mark.parametrize("name", ["17-DS-4", "DS-0017"])
def test_a_row_in_a_note_has_an_id_of_another_shape(tmp_path: Path, name: str) -> None:
    rows = "".join(f'{name.replace("17", str(n))},{n},A,"Seen."\n' for n in range(20, 24))
    broken = f'{name.replace("17", "24")},24,A,Seen.\n25,25,A,{PLANTED}\nasa"\n'
    assert PLANTED not in str(read(tmp_path, rows + broken + rows))


def test_a_piece_is_not_judged_without_the_rows_before_it(tmp_path: Path) -> None:
    body = "5,1,Discharge summary,x\n3,1,Discharge summary,x\n2,1,Discharge summary,x\n"
    body += "".join(row(n) for n in range(20, 30)) + "4,4,Discharge summary,short\n" + row(30)
    found = read(tmp_path, body)
    assert len(ids(found)) == len(found) == 15
    source = CsvSource(tmp_path / "n.csv", ColumnNames())
    (first, _), (second, data) = source.cut(
        lambda _: None, lambda number, rows, size: number == 0 and rows == 3
    )
    assert first.end == second.start
    assert list(source.rows_of(second, data)) == found[3:]
