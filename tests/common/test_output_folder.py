"""A folder of output is there whole, old or new, whenever its program is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.output_folder import complete_folder

PROGRAM = "tests.program"


def make(path: Path, content: str) -> None:
    with complete_folder(path, PROGRAM, {}) as folder:
        (folder / "text").write_text(content)
        (folder / "sub").mkdir()
        (folder / "sub" / "more").write_text(content)


def killed_at(call: int, path: Path, content: str) -> bool:
    """Makes a folder in a child that is killed before its call of that number; tells whether."""
    pid = os.fork()
    if pid == 0:
        left = iter(range(call))

        def count(real):
            def counted(*args, **kwargs):
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return counted

        for name in ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir"):
            setattr(os, name, count(getattr(os, name)))
        try:
            make(path, content)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize("before", [None, "empty", "old"])
def test_killed_at_any_call_the_next_run_leaves_the_new_folder_alone(
    tmp_path: Path, before: str | None
) -> None:
    kills = 0
    while True:
        path = tmp_path / str(kills) / "out"
        path.parent.mkdir()
        if before == "empty":
            path.mkdir()
        elif before == "old":
            make(path, "old")
        if not killed_at(kills, path, "new"):
            break
        if path.exists() and any(path.iterdir()):
            assert (path / "text").read_text() == (path / "sub" / "more").read_text()
        make(path, "newest")
        assert [entry.name for entry in path.parent.iterdir()] == ["out"]
        assert (path / "text").read_text() == "newest"
        assert {entry.name for entry in path.iterdir()} == {"text", "sub", "conversion.json"}
        kills += 1
    assert kills > 10
    assert (path / "text").read_text() == "new"


def test_a_failure_between_the_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out", "old")
    real = atomic_files.replace

    def replace(source: Path, target: Path) -> None:
        if source.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(atomic_files, "replace", replace)
    with pytest.raises(OSError, match="Input/output"):
        make(tmp_path / "out", "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "text").read_text() == "old"


def test_two_programs_do_not_make_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_SECONDS_TO_END", 0.0)
    with complete_folder(tmp_path / "out", PROGRAM, {}) as folder:
        (folder / "text").write_text("first")
        with pytest.raises(UserError, match="another program is writing it"):
            make(tmp_path / "out", "second")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "text").read_text() == "first"


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    make(tmp_path / "target", "old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    make(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "text").read_text() == "new"


def test_what_a_killed_write_left_in_the_folder_is_no_file_of_a_user(tmp_path: Path) -> None:
    make(tmp_path / "out", "old")
    (tmp_path / "out" / "text.0123abcd.partial").touch()
    make(tmp_path / "out", "new")
    (tmp_path / "out" / "other.0123abcd.partial").touch()
    with pytest.raises(UserError, match=r"other\.0123abcd\.partial"):
        make(tmp_path / "out", "newest")
