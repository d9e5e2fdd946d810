"""Paths that a user gives: the folder of an output is made, or one line says why not."""

from pathlib import Path

import pytest

from data_prep.common import files
from data_prep.common.errors import UserError
from data_prep.common.paths import make_folder, prepare_file


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for make in (make_folder, lambda path: files.make_folder(str(path))):
        make(folder)
        make(folder)
        assert folder.is_dir()
        folder.rmdir()


@pytest.mark.parametrize("below", ["", "c", "c/d"])
@pytest.mark.parametrize("kind", ["file", "link to a file", "link to nothing"])
def test_what_is_in_the_way_is_named_with_the_flag(tmp_path: Path, kind: str, below: str) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "b"
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / ("file" if kind == "link to a file" else "nothing"))
    expected = f"{place} is a file; a folder was expected"
    with pytest.raises(UserError) as caught:
        make_folder(place / below, "report_file")
    assert str(caught.value) == f"--report_file: {expected}"
    with pytest.raises(UserError) as caught:
        files.make_folder(str(place / below))
    assert str(caught.value) == f"--output_dir: {expected}"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--output_file: /proc/x.*: No such file"):
        make_folder(Path("/proc/x/y"), "output_file")


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.csv"
    for _ in range(2):
        assert prepare_file(path, "output_file") == path
        assert path.parent.is_dir()
    with pytest.raises(UserError, match=r"^--output_file: .*/b is a folder; the name of a file"):
        prepare_file(path.parent, "output_file")


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_what_is_not_compressed_has_no_compressed_files_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"notes.csv{suffix}"
    with pytest.raises(UserError, match=rf"^--output_file: {path} has .*; leave out {suffix}$"):
        prepare_file(path, "output_file")
    assert not path.parent.exists()
