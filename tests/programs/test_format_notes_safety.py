"""format_notes when things go wrong: kills, dead workers, full disks, mistakes; no note told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.common import atomic_files
from data_prep.formatting import work_folder as work_shards
from tests.format_notes_program import (
    COLUMNS,
    PLANTED,
    RULES,
    files,
    made_up_notes,
    run,
    write_notes,
)
from tests.running import (
    HANG_SECONDS,
    ROOT,
    arguments,
    assert_one_line_error,
    assert_success,
    run_program,
    wait_until,
)

# Work shards of two notes, so that a few notes make many of them.
SMALL_SHARDS = """
import sys
from data_prep import format_notes
from data_prep.formatting import work_folder as work_shards
work_shards._NOTES_PER_SHARD = 2
{more}
if __name__ == "__main__":
    sys.argv[0] = "format_notes"
    format_notes.cli()
"""


def script(folder: Path, more: str = "") -> Path:
    path = folder / "small_shards.py"
    path.write_text(SMALL_SHARDS.format(more=more))
    return path


def run_script(path: Path, **flags) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, path, *arguments(**flags)],
        capture_output=True, text=True, timeout=HANG_SECONDS, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_killed_at_any_time_it_goes_on_and_makes_the_same(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(40))
    flags = {
        "input_file": source, "category": "all", "num_shards": 2, "deduplicate": "exact",
        "held_out_fraction": 0.2, **RULES,
    }  # fmt: skip
    whole = run_script(script(tmp_path), output_dir=tmp_path / "whole", num_workers=2, **flags)
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "out"
    kills = 0
    for writes in (0, 3, 9, 2):
        # The process kills itself while a file lies complete under its partial name.
        path = script(
            tmp_path,
            "import os, signal\n"
            "from data_prep.common import atomic_files\n"
            "real, count = atomic_files.replace, iter(range(1000))\n"
            "def replace(source, target):\n"
            f"    if next(count) == {writes}:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    real(source, target)\n"
            "atomic_files.replace = replace\n",
        )
        result = run_script(path, output_dir=out, num_workers=1 + kills % 2, **flags)
        kills += result.returncode == -signal.SIGKILL
        assert not list(out.glob("*.txt"))
        assert not (out / "manifest.json").exists()
    assert kills == 4
    done = sorted(path.name for path in (out / work_shards.FOLDER_NAME).glob("shard-*.jsonl"))
    assert len(done) == 2 + 9 + 2
    stamps = {name: (out / work_shards.FOLDER_NAME / name).stat().st_mtime_ns for name in done}

    # In the midst of the final files' appearing.
    path = script(
        tmp_path,
        "import os, signal\n"
        "from data_prep.common import atomic_files\n"
        "real = atomic_files.replace\n"
        "def replace(source, target):\n"
        "    real(source, target)\n"
        "    if target.name.startswith('nursing_other'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_files.replace = replace\n",
    )
    result = run_script(path, output_dir=out, **flags)
    assert result.returncode == -signal.SIGKILL
    assert list(out.glob("*.txt"))
    assert not (out / "manifest.json").exists()
    for name, stamp in stamps.items():
        assert (out / work_shards.FOLDER_NAME / name).stat().st_mtime_ns == stamp

    last = run_script(script(tmp_path), output_dir=out, **flags)
    assert last.returncode == 0, last.stderr
    assert files(out) == files(tmp_path / "whole")


def test_a_changed_work_shard_is_made_again(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(8))
    flags = {"input_file": source, "category": "all", **RULES}
    assert run_script(script(tmp_path), output_dir=tmp_path / "whole", **flags).returncode == 0
    out = tmp_path / "out"
    path = script(
        tmp_path,
        "import os\nwork_shards.WorkFolder.assemble = lambda *_, **__: os._exit(9)\n",
    )
    assert run_script(path, output_dir=out, **flags).returncode == 9
    changed, cut, *_ = sorted((out / work_shards.FOLDER_NAME).glob("shard-*.jsonl"))
    changed.write_text(changed.read_text().replace("Patient", "Patents"))
    os.truncate(cut, 20)
    result = run_script(script(tmp_path), output_dir=out, **flags)
    assert result.returncode == 0
    assert len(result.stderr.splitlines()) == 2
    assert PLANTED not in result.stderr
    assert files(out) == files(tmp_path / "whole")


def test_work_that_was_left_behind_a_complete_output_goes(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(8))
    flags = {"input_file": source, "output_dir": tmp_path / "out", "category": "all", **RULES}
    assert run(capfd, **flags)[0] == 0
    before = files(tmp_path / "out")
    (tmp_path / "out" / work_shards.FOLDER_NAME).mkdir()
    (tmp_path / "out" / work_shards.FOLDER_NAME / "shard").write_text("text of a note")
    assert "complete already" in run(capfd, **flags)[1]
    assert files(tmp_path / "out") == before


def test_other_flags_are_refused_and_named(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(8))
    flags = {"input_file": source, "category": "all", **RULES}
    out = tmp_path / "out"
    assert run(capfd, output_dir=out, **flags)[0] == 0
    before = files(out)
    status, said, _ = run(capfd, output_dir=out, num_workers=1, **flags)
    assert status == 0
    assert "complete already" in said
    status, _, err = run(capfd, output_dir=out, section_rules="published", num_shards=2, **flags)
    assert status == 1
    assert "--section_rules was fixed, is published; --num_shards was 1, is 2" in err
    write_notes(source, made_up_notes(9))
    status, _, err = run(capfd, output_dir=out, **flags)
    assert status == 1
    assert "the input has changed" in err
    assert files(out) == before


def test_unfinished_work_of_other_flags_is_refused(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(8))
    path = script(
        tmp_path,
        "import os\nwork_shards.WorkFolder.assemble = lambda *_, **__: os._exit(9)\n",
    )
    flags = {"input_file": source, "output_dir": tmp_path / "out", "category": "all", **RULES}
    assert run_script(path, **flags).returncode == 9
    status, _, err = run(capfd, held_out_fraction=0.5, **flags)
    assert status == 1
    assert "--held_out_fraction was 0.0, is 0.5" in err


def test_a_removed_output_is_made_again(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(8))
    flags = {"input_file": source, "output_dir": tmp_path / "out", "category": "all", **RULES}
    assert run(capfd, **flags)[0] == 0
    before = files(tmp_path / "out")
    (tmp_path / "out" / "physician.txt").unlink()
    assert run(capfd, **flags)[0] == 0
    assert files(tmp_path / "out") == before


def test_a_worker_that_dies_is_an_error_that_names_its_shard(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(20))
    flags = {"input_file": source, "output_dir": tmp_path / "out", "category": "all", **RULES}
    path = script(
        tmp_path,
        "import os, signal\n"
        "from data_prep import sectioning\n"
        "real = sectioning.split_sections\n"
        "def split(text, rules):\n"
        "    if 'Patient 9 ' in text:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(text, rules)\n"
        "sectioning.split_sections = split\n",
    )
    result = run_script(path, num_workers=2, **flags)
    assert_one_line_error(result, 1, "work shard 4 (notes 9 to 10)", "SIGKILL")
    assert not list((tmp_path / "out").glob("*.txt"))
    assert run_script(script(tmp_path), num_workers=2, **flags).returncode == 0


def test_an_unexpected_failure_in_a_worker_quotes_nothing(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    path = script(
        tmp_path,
        "from data_prep import sectioning\n"
        "def split(text, rules):\n"
        "    raise ValueError(text)\n"
        "sectioning.split_sections = split\n",
    )
    for workers in (1, 2):
        result = run_script(
            path, input_file=source, output_dir=tmp_path / "out", category="all",
            num_workers=workers, **RULES,
        )  # fmt: skip
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert "ValueError" in result.stderr
        assert PLANTED not in result.stdout + result.stderr


def test_disk_full_is_one_line(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    path = script(
        tmp_path,
        "import os\nfrom tests import full_disk\nos.fdopen = full_disk.fdopen('shard-')\n",
    )
    out = tmp_path / "out"
    result = run_script(path, input_file=source, output_dir=out, category="all", **RULES)
    assert_one_line_error(result, 1, "No space left on device", "shard-000000", "free some space")
    assert [path.name for path in out.iterdir()] == [work_shards.FOLDER_NAME]
    assert not list((out / work_shards.FOLDER_NAME).glob("shard*"))


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    (tmp_path / "out").mkdir()
    with atomic_files.held(tmp_path / "out", "format_notes"):
        status, _, err = run(
            capfd, input_file=source, output_dir=tmp_path / "out", category="all", **RULES
        )
    assert status == 1
    assert "another format_notes" in err


def test_ctrl_c_ends_all_processes(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    path = script(
        tmp_path,
        "import time\n"
        "from pathlib import Path\n"
        "from data_prep import sectioning\n"
        "def split(text, rules):\n"
        f"    Path({str(tmp_path / 'at_work')!r}).touch()\n"
        f"    time.sleep({2 * HANG_SECONDS})\n"
        "sectioning.split_sections = split\n",
    )
    process = subprocess.Popen(
        [sys.executable, path, *arguments(input_file=source, output_dir=tmp_path / "out",
                                          category="all", num_workers=2, **RULES)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    wait_until((tmp_path / "at_work").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert err == "format_notes: error: interrupted\n"
    # multiprocessing's own helper takes a moment to see that everybody is gone.
    with pytest.raises(ProcessLookupError):
        for _ in range(10 * HANG_SECONDS):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def bad_csv(folder: Path, content: bytes) -> Path:
    path = folder / "bad.csv"
    header = ",".join(COLUMNS).encode() + b"\n"
    path.write_bytes(header + content)
    return path


GOOD = f'1,1,A,,"A {PLANTED} note."\n'.encode()

NO_FOLDER = "--output_dir: /dev/null is a file; a folder was expected"

MISTAKES = {
    "no input": ({}, 2, "--input_file and --input_sql"),
    "both inputs": ({"input_file": "x.csv", "input_sql": "sqlite://", "sql_table": "n"}, 2, "both"),
    "no table": ({"input_sql": "sqlite:///n.db"}, 2, "--sql_table"),
    "empty category": ({"input_file": GOOD, "category": "A,,B"}, 2, "empty name"),
    "no shards": ({"input_file": GOOD, "num_shards": 0}, 2, "num_shards"),
    "no workers": ({"input_file": GOOD, "num_workers": 0}, 2, "num_workers"),
    "unknown rules": ({"input_file": GOOD, "section_rules": "best"}, 2, "section_rules"),
    "unknown splitter": ({"input_file": GOOD, "sentence_splitter": "nltk"}, 2, "splitter"),
    "unknown flag": ({"input_file": GOOD, "categories": "A"}, 2, "categories"),
    "fraction above 1": ({"input_file": GOOD, "held_out_fraction": 1.5}, 2, "held_out_fraction"),
    "missing file": ({"input_file": "/nowhere/NOTEEVENTS.csv"}, 1, "/nowhere/NOTEEVENTS.csv"),
    "no match": ({"input_file": "/nowhere/*.csv"}, 1, "no file matches"),
    "empty file": ({"input_file": None}, 1, "found no header"),
    "header only": ({"input_file": b""}, 1, "no note"),
    "unknown category": ({"input_file": GOOD, "category": "B"}, 1, "no note is of category 'B'"),
    "all empty": ({"input_file": b'1,1,A,,""\n2,1,A,1,x\n'}, 1, "no note is left"),
    "separators only": ({"input_file": b"1,1,A,,----\n"}, 1, "no note gave any text"),
    "fields": ({"input_file": GOOD + b"2,1,A\n"}, 1, "row 2 (line 3)"),
    "bytes": ({"input_file": GOOD + b"2,1,A,,\xff\n"}, 1, "row 2 (line 3)"),
    "quote": ({"input_file": GOOD + b'2,1,A,,"\nopen\n'}, 1, "row 2 (line 3)"),
    "null": ({"input_file": GOOD + b"2,1,A,,a\0b\n"}, 1, "row 2 (line 3)"),
    "no subject": ({"input_file": GOOD + b"2,,A,,x\n", "held_out_fraction": 0.5}, 1, "subject"),
    "no column": ({"input_file": GOOD, "text_column": "NOTE"}, 1, "--text_column"),
    "text as category": ({"input_file": GOOD, "category_column": "TEXT"}, 1, "must differ"),
    "ids as category": (
        {"input_file": b"".join(b"%d,1,A,,x\n" % n for n in range(600)),
         "category_column": "row_id"}, 1, "--category_column",
    ),
    "no model": (
        {"input_file": GOOD, "sentence_splitter": "spacy", "spacy_model": "no_such_model"},
        1, "no_such_model",
    ),
    "file twice": ({"input_file": "{0},{0}"}, 1, "named twice"),
    "output is a file": ({"input_file": GOOD, "output_dir": "/dev/null"}, 1, NO_FOLDER),
    "output in a file": ({"input_file": GOOD, "output_dir": "/dev/null/x"}, 1, NO_FOLDER),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(tmp_path: Path, capfd, mistake: str) -> None:
    flags, expected_status, fragment = MISTAKES[mistake]
    flags = {"output_dir": tmp_path / "out", "category": "A", **RULES, **flags}
    if flags.get("input_file") == "{0},{0}":
        flags["input_file"] = "{0},{0}".format(bad_csv(tmp_path, GOOD))
    elif "input_file" in flags and not isinstance(flags["input_file"], str):
        content = flags["input_file"]
        path = bad_csv(tmp_path, content or b"")
        if content is None:
            path.write_bytes(b"")
        flags["input_file"] = path
    status, out, err = run(capfd, **flags)
    assert status == expected_status, err
    assert len(err.splitlines()) == 1
    assert err.startswith("format_notes: error: ")
    assert fragment in err
    assert "withheld" not in err
    assert PLANTED not in out + err
    made = {path.name for path in tmp_path.glob("out/*")}
    assert made <= {work_shards.FOLDER_NAME}, "output that looks finished"


def test_skipped_bad_rows_are_counted(tmp_path: Path, capfd) -> None:
    source = bad_csv(tmp_path, GOOD + b"2,1,A\n3,1,A,,\xff\n4,1,A,,\xfe\n" + GOOD)
    flags = {"input_file": source, "output_dir": tmp_path / "out", "category": "A", **RULES}
    status, _, err = run(capfd, skip_bad_rows=True, **flags)
    assert (status, err) == (0, "")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["bad_rows"] == {"undecodable bytes": 2, "wrong number of fields": 1}
    assert manifest["counts"]["notes"] == 2


def test_nothing_but_the_text_holds_a_word_of_the_notes(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(150))
    out = tmp_path / "out"
    result = run_program(
        "data_prep.format_notes", input_file=source, output_dir=out, category="all",
        held_out_fraction=0.2, deduplicate="near", num_workers=2, **RULES,
    )  # fmt: skip
    assert_success(result)
    assert result.stderr == ""
    assert PLANTED.lower() not in result.stdout.lower()
    for path in out.iterdir():
        assert (PLANTED in path.read_text()) == (path.suffix == ".txt"), path
    # The headers of many patients do show: the report is not empty.
    assert "Allergies" in (out / "data_report.html").read_text()


def test_text_of_others_is_not_written_over(tmp_path: Path, capfd) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(10))
    (tmp_path / "physician.txt").write_text("precious")
    status, _, err = run(capfd, input_file=source, output_dir=tmp_path, category="all", **RULES)
    assert status == 1
    assert "physician.txt exists" in err
    assert (tmp_path / "physician.txt").read_text() == "precious"


def test_help_is_quick_and_names_the_flags() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "data_prep.format_notes", "--help"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert "--[no]skip_bad_rows" in result.stdout
    for heavy in ("numpy", "spacy", "pyarrow", "sqlalchemy", "matplotlib"):
        assert f" {heavy}\n" not in result.stderr


def test_a_reader_that_goes_away_gets_no_traceback(tmp_path: Path) -> None:
    source = write_notes(tmp_path / "n.csv", made_up_notes(6))
    flags = arguments(input_file=source, output_dir=tmp_path / "out", category="all", **RULES)
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "data_prep.format_notes", *flags],
        stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    os.close(writing)
    assert result.stderr == ""
    assert result.returncode == 1
