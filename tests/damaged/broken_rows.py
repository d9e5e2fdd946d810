"""CSVs of notes broken at random, and what of their notes was taken for a row.

    python -m tests.damaged.broken_rows [--files 3000] [--seed 1]

The notes hold lines with commas, quotes, numbers, and whole rows. Each line of a note says whose
it is, so that a note that begins with any but the first line of one is known for what it is. Prints
for each layout in how many files that was so, and how many notes were kept.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data_prep.notes.rows import ColumnNames, Note, Row
from data_prep.notes.sources import open_file

_CATEGORIES = ("Discharge summary", "Radiology", "Nursing")
_MARK = re.compile(r"m(\d+)_(\d+)")


class Layout(NamedTuple):
    """The columns of a file.

    Attributes:
      header: its first line.
      columns: which of its columns hold what.
      row: number, subject, category and text as a row, the text escaped.
    """

    header: str
    columns: ColumnNames
    row: Callable[[int, int, str, str], str]


LAYOUTS = {
    "plain": Layout(
        "ROW_ID,SUBJECT_ID,CATEGORY,TEXT", ColumnNames(),
        lambda n, s, c, t: f'{n},{s},{c},"{t}"',
    ),
    "MIMIC-III": Layout(
        "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CATEGORY,DESCRIPTION,ISERROR,TEXT", ColumnNames(),
        lambda n, s, c, t: f'{n},{s},{1000 + s},2151-08-04,"{c}","Report",,"{t}"',
    ),
    "MIMIC-IV": Layout(
        "note_id,subject_id,note_type,note_seq,text", ColumnNames(),
        lambda n, s, c, t: f'{n}-DS-{s},{n},{c},1,"{t}"',
    ),
    "no number of the note": Layout(
        "SUBJECT_ID,CATEGORY,TEXT", ColumnNames(), lambda n, s, c, t: f'{s},{c},"{t}"'
    ),
    "all quoted": Layout(
        "ROW_ID,SUBJECT_ID,CATEGORY,TEXT", ColumnNames(),
        lambda n, s, c, t: f'"{n}","{s}","{c}","{t}"',
    ),
    "names for numbers": Layout(
        "note_id,subject_id,category,text", ColumnNames(),
        lambda n, s, c, t: f'DS-{n:04d}-x,{s},{c},"{t}"',
    ),
    "text first": Layout(
        "TEXT,ROW_ID,SUBJECT_ID,CATEGORY", ColumnNames(),
        lambda n, s, c, t: f'"{t}",{n},{s},{c}',
    ),
    "text between": Layout(
        "ROW_ID,TEXT,SUBJECT_ID,CATEGORY", ColumnNames(),
        lambda n, s, c, t: f'{n},"{t}",{s},{c}',
    ),
    "two columns": Layout("CATEGORY,TEXT", ColumnNames(), lambda n, s, c, t: f'{c},"{t}"'),
    "OMOP": Layout(
        "note_id,person_id,note_type_concept_id,note_text",
        ColumnNames("note_text", "note_type_concept_id", "note_id", "person_id"),
        lambda n, s, c, t: f'{n},{s},{44814637 + _CATEGORIES.index(c)},"{t}"',
    ),
}  # fmt: skip


class Found(NamedTuple):
    """What was read of a broken file.

    Attributes:
      content: of the file.
      rows: that were read.
      num_rows: that it had before it was broken.
      from_inside: those that begin with any but the first line of a note.
    """

    content: str
    rows: list[Row]
    num_rows: int
    from_inside: list[Note]


def read_broken(layout: Layout, rng: random.Random, folder: Path) -> Found:
    """Makes a file, breaks it in one to three places, and reads it."""
    size = rng.choice((6, 12, 20))
    rows = [
        layout.row(
            number,
            number if rng.random() < 0.3 else rng.randrange(50),
            rng.choice(_CATEGORIES),
            _text(number, layout.row, rng),
        )
        for number in range(size)
    ]
    content = "\n".join([*rows, ""])
    for _ in range(rng.choice((1, 2, 3))):
        content = _broken(content, rng)
    content = f"{layout.header}\n{content}"
    if rng.random() < 0.2:
        content = content.replace("\n", "\r\n")
    path = folder / "n.csv"
    path.write_text(content, newline="")
    found = list(open_file(path, layout.columns).rows())
    notes = [row for row in found if isinstance(row, Note)]
    # Two faults may make another sound file, of which nobody can know better.
    inside = [] if _is_sound(content) else [note for note in notes if _is_inside(note, content)]
    return Found(content, found, size, inside)


def _text(number: int, row: Callable[[int, int, str, str], str], rng: random.Random) -> str:
    """Returns a note, escaped: its first line is plain, those that follow are not."""

    def line(mark: str) -> str:
        near = rng.choice((number, number + 1, number + 2, rng.randrange(40)))
        category = rng.choice(_CATEGORIES)
        return rng.choice((
            f"{mark}, asa, lasix, colace", f'{mark} said ""no"" today.',
            f"{number + 3},{number},{mark},7", f"{mark}; a; b; c", "", f'""{mark}"",1,2',
            row(near, rng.randrange(40), category, mark).replace('"', '""'),
            f"{rng.randrange(60)},{rng.randrange(60)},{category},{mark}", f"{mark} and words",
        ))  # fmt: skip

    lines = [line(f"m{number}_{place}") for place in range(1, rng.randrange(2, 8))]
    return "\n".join([f"m{number}_0 Seen by me.", *lines])


def _broken(content: str, rng: random.Random) -> str:
    """Returns the content with a quote, a comma or a line feed more, or some characters less."""
    place = rng.randrange(len(content))
    quote = rng.choice([at for at, letter in enumerate(content) if letter == '"'])
    before, after = content[:place], content[place:]
    return rng.choice((
        f'{before}"{after}', content[:quote] + content[quote + 1 :],
        before + rng.choice(('",', '"\n', ',"', '\n"')) + after,
        before + rng.choice("\n,") + after, f"{content[:quote]}\\{content[quote:]}",
        before + after[rng.choice((1, 3, 20)) :],
    ))  # fmt: skip


def _is_sound(content: str) -> bool:
    try:
        rows = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    except csv.Error:
        return False
    return len({len(row) for row in rows if row}) == 1


def _is_inside(note: Note, content: str) -> bool:
    mark = _MARK.search(note.text)
    return mark is not None and mark[2] != "0" and f"m{mark[1]}_0" in content


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    values = parser.parse_args()
    rng = random.Random(values.seed)
    inside: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(values.files):
            name = list(LAYOUTS)[number % len(LAYOUTS)]
            found = read_broken(LAYOUTS[name], rng, Path(temporary))
            if found.from_inside:
                print(f"{found.content}\ntaken from inside a note: {found.from_inside[0]}\n")
            inside[name] += bool(found.from_inside)
            kept[name] += sum(isinstance(row, Note) for row in found.rows)
            total[name] += found.num_rows
    for name in LAYOUTS:
        print(f"{name}: {inside[name]} files badly read, {kept[name]} of {total[name]} notes kept")
    print(f"all: {inside.total()} of {values.files} files badly read")


if __name__ == "__main__":
    main()
