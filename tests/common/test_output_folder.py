"""A folder of output is there whole, old or new, whenever its program is killed."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.output_folder import complete_folder
from tests.drills import kills

PROGRAM = "tests.program"


def make(path: Path, content: str) -> None:
    with complete_folder(path, PROGRAM, {}) as folder:
        (folder / "text").write_text(content)
        (folder / "sub").mkdir()
        (folder / "sub" / "more").write_text(content)


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("before", [None, "empty", "old"])
def test_killed_at_any_call_the_next_run_leaves_the_new_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(atomic_files, "exchange", lambda *_: False)

    def make_new(path: Path) -> int:
        make(path, "new")
        return 0

    call = 0
    while True:
        path = tmp_path / str(call) / "out"
        path.parent.mkdir()
        if before == "empty":
            path.mkdir()
        elif before == "old":
            make(path, "old")
        outcome = kills.run(
            functools.partial(make_new, path), path.parent, kill_at=call, log=tmp_path / "log"
        )
        if outcome.status == 0:
            break
        if path.exists() and any(path.iterdir()):
            assert (path / "text").read_text() == (path / "sub" / "more").read_text()
        elif exchange:
            assert before != "old", outcome
        make(path, "newest")
        assert [entry.name for entry in path.parent.iterdir()] == ["out"]
        assert (path / "text").read_text() == "newest"
        assert {entry.name for entry in path.iterdir()} == {"text", "sub", "conversion.json"}
        call += 1
    assert call > 8
    assert (path / "text").read_text() == "new"


def test_a_failure_between_the_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out", "old")
    monkeypatch.setattr(atomic_files, "exchange", lambda *_: False)
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
