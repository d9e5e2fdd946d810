"""What programs make can be read by their user alone, unless told otherwise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from data_prep.common import atomic_files, files, output_folder, output_mode, program
from data_prep.common.errors import UsageError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("asked", "of_file", "of_folder"),
    [("0600", 0o600, 0o700), ("640", 0o640, 0o750), ("0664", 0o664, 0o775), ("0604", 0o604, 0o705)],
)
def test_new_files_and_folders(tmp_path: Path, asked: str, of_file: int, of_folder: int) -> None:
    before = os.umask(0o022)
    try:
        with output_mode.made_with(asked):
            atomic_files.write_json(tmp_path / "a.json", {})
            files.write(str(tmp_path / "b.txt"), b"")
            (tmp_path / "c").mkdir()
            with output_folder.complete_folder(tmp_path / "d", "p", {}) as folder:
                (folder / "e").touch()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert {mode(tmp_path / name) for name in ("a.json", "b.txt", "d/e")} == {of_file}
    assert {mode(tmp_path / name) for name in ("c", "d")} == {of_folder}


def test_what_exists_keeps_its_mode(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.json", "b.txt", "d", "d/e")]
    with output_mode.made_with("0644"):
        paths[0].touch()
        paths[1].touch()
        with output_folder.complete_folder(paths[2], "p", {}) as folder:
            (folder / "e").touch()
    with output_mode.made_with("0600"):
        with atomic_files.atomic_write(paths[0]):
            (partial,) = tmp_path.glob("*.partial")
            assert mode(partial) == 0o600
        files.write(str(paths[1]), b"")
        with output_folder.complete_folder(paths[2], "p", {}) as folder:
            (folder / "e").touch()
            (folder / "f").touch()
    assert [mode(path) for path in paths] == [0o644, 0o644, 0o755, 0o644]
    assert mode(tmp_path / "d" / "f") == 0o600


@pytest.mark.parametrize("asked", ["", "0o600", "0700", "0444", "0200", "600 ", "0688"])
def test_what_is_no_mode_is_refused(asked: str) -> None:
    refused = pytest.raises(UsageError, match="--output_mode: expected an octal mode")
    with refused, output_mode.made_with(asked):
        raise AssertionError


def test_every_program_has_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"

    def main(values: program.ProgramFlags) -> None:
        made.touch()
        assert "output_mode" not in values.as_dict()

    for argv, expected in ((["--output_mode=0640"], 0o640), ([], 0o600)):
        assert program.run_to_exit_status("", lambda _: None, main, argv) == 0
        assert mode(made) == expected
        made.unlink()
    assert program.run_to_exit_status("", lambda _: None, main, ["--output_mode=x"]) == 2
    assert "--output_mode: expected" in capsys.readouterr().err
    assert not made.exists()
