"""Which files a flag means: paths, globs, folders; what is passed over; what is said."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest

from data_prep.common.errors import UsageError, UserError
from data_prep.common.input_files import find_files, find_local_files
from data_prep.common.paths import listed

OWN = (
    "manifest.json", "data_report.html", "data_index.npz", "data_digests.json", "a.tfrecord.json",
    "gone.tfrecord.json",
    "tf_examples.tfrecord_00000.json", "a.txt.json", "b.txt.0123abcd.partial",
    "vectors.row_ids.csv", "eval_results.txt", "a.txt.patients", "audit.json",
)  # fmt: skip


def names(paths) -> list[str]:
    return [Path(path).name for path in paths]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "a.tfrecord", "tf_examples.tfrecord_00000", *OWN):
        (folder / name).write_text("x\n")
    for name in ("format_notes.work", "unpacked", "create_pretraining_data.beam"):
        (folder / name).mkdir()
    (folder / "any_name.html").write_text(
        '<!doctype html>\n<meta name="generator" content="bert-clinical">'
    )
    (folder / "secrets.json").write_text('{\n "program": "data_prep.plant_canaries"')
    (folder / "my_vocab.txt").write_text("[PAD]\n[UNK]\n")
    return folder


@pytest.mark.parametrize("pattern", ["{}/*", "{}", "{}/"])
def test_a_glob_or_folder_passes_over_what_the_project_lays_there(
    folder: Path, pattern: str, caplog
) -> None:
    with caplog.at_level(logging.INFO):
        found = find_local_files(pattern.format(folder), "input_file")
    assert names(found) == ["a.tfrecord", "a.txt", "b.txt", "tf_examples.tfrecord_00000"]
    (record,) = caplog.records
    assert f"passed over {len(OWN) + 6} file(s)" in record.getMessage()
    assert f"and {len(OWN) + 3} more" in record.getMessage()


def test_what_is_named_itself_is_taken(folder: Path) -> None:
    path = folder / "manifest.json"
    assert find_local_files(str(path), "input_file") == [path]


def test_json_that_describes_nothing_is_data(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    assert names(find_files(f"{tmp_path}/*", "input_file")) == ["notes.json"]


def test_nothing_but_own_files(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"names 1 file\(s\), all of them laid beside data"):
        find_files(f"{tmp_path}/*", "input_file")


@pytest.mark.parametrize(
    "name", ["a[1].txt", "a,b.txt", "a, b.txt", " a.txt", "a*.txt", "a?[x],.txt"]
)
def test_a_path_that_exists_is_that_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "a1.txt").write_text("1\n")
    (tmp_path / "z.txt").write_text("z\n")
    (tmp_path / name).write_text("x\n")
    assert names(find_files(f"{tmp_path}/{name}", "input_file")) == [name]
    both = find_files(f"{tmp_path}/{name},{tmp_path}/z.txt", "input_file")
    assert names(both) == [name, "z.txt"]


@pytest.mark.parametrize("name", ["a[1]", "a,b", "a, b[x]*", "t?,x[1],"])
def test_a_folder_that_exists_is_that_folder_in_a_glob_too(tmp_path: Path, name: str) -> None:
    for folder in ("a1", f"{name}/c[2]"):
        (tmp_path / folder).mkdir(parents=True)
        for file in ("y.txt", "z.txt"):
            (tmp_path / folder / file).write_text("x\n")
    for pattern in (f"{name}/c[2]/*.txt", f"{name}/*/[yz].txt", f"{name}/c*/?.txt"):
        found = find_files(f"{tmp_path}/{pattern},{tmp_path}/a[1-3]/z*", "input_file")
        expected = [tmp_path / name / "c[2]" / file for file in ("y.txt", "z.txt")]
        assert list(map(Path, found)) == [*expected, tmp_path / "a1" / "z.txt"]


def test_spaces_around_commas(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x\n")
    found = find_files(f"{tmp_path}/a.txt ,  {tmp_path}/b*.txt ", "input_file")
    assert names(found) == ["a.txt", "b.txt"]


def test_globs_come_in_the_order_of_the_list_and_sorted(tmp_path: Path) -> None:
    for name in ("b2", "b1", "a"):
        (tmp_path / name).write_text("x\n")
    assert names(find_files(f"{tmp_path}/b?,{tmp_path}/a", "input_file")) == ["b1", "b2", "a"]


def test_a_file_named_twice_is_said(tmp_path: Path, caplog) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "link.txt").symlink_to("a.txt")
    patterns = f"{tmp_path}/a.txt,{tmp_path}/link.txt"
    assert names(find_files(patterns, "input_file")) == ["a.txt", "link.txt"]
    assert "1 file(s) are named again" in caplog.text
    with pytest.raises(UserError, match=r"link\.txt is named twice"):
        find_files(patterns, "input_file", once=True)


def test_empty_files_are_counted_and_passed_over(tmp_path: Path, caplog) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    for number in range(5):
        (tmp_path / f"empty-{number}").touch()
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "twice_empty").write_bytes(gzip.compress(b"") * 2)
    (tmp_path / "second_full").write_bytes(gzip.compress(b"") + gzip.compress(b"x\n"))
    with caplog.at_level(logging.INFO):
        found = find_files(str(tmp_path), "input_file")
    assert names(found) == ["a.txt", "second_full"]
    assert "passed over 7 empty file(s)" in caplog.text
    assert "and 4 more" in caplog.text
    assert len(find_files(str(tmp_path), "input_file", keep_empty=True)) == 9
    with pytest.raises(UserError, match=r"and 2 more: all are empty"):
        find_files(f"{tmp_path}/empty-*", "input_file")
    with pytest.raises(UserError, match="the file is empty"):
        find_files(f"{tmp_path}/empty-1", "input_file")


@pytest.mark.parametrize(
    ("pattern", "error", "said"),
    [
        ("{}/none.txt", UserError, "none.txt: No such file"),
        ("{}/none*.txt", UserError, "no file matches"),
        ("{}/a.txt,,{}/a.txt", UsageError, "between two commas"),
        ("{}/a.txt,", UsageError, "between two commas"),
        ("{}/folder/inner", UserError, "is a folder without files"),
        ("{}/*", UserError, "folder is a folder; a file was expected"),
        ("gs://bucket/notes.csv", UsageError, "only --runner reads it"),
    ],
)
def test_what_names_nothing(tmp_path: Path, pattern: str, error: type, said: str) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(error, match=said):
        find_local_files(pattern.replace("{}", str(tmp_path)), "input_file")


def test_paths_in_messages_are_cut_after_three() -> None:
    assert listed("abc") == "a, b, c"
    assert listed(range(40)) == "0, 1, 2 and 37 more"
