"""Partial files have one writer; what the dead have left goes, what the living write stays."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.common import atomic_files, output_folder, unfinished
from data_prep.common.errors import UserError
from tests import full_disk
from tests.running import ROOT

WRITER = """
import os, sys
from data_prep.common import atomic_files
with atomic_files.atomic_write(sys.argv[1]) as stream:
    stream.write(b"theirs")
    stream.flush()
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writer(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_the_living_are_left_alone_and_the_dead_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_SECONDS_TO_END", 0.0)
    path = tmp_path / "out"
    process = writer(path)
    (other,) = tmp_path.iterdir()
    with pytest.raises(UserError, match="another program is writing it"):
        atomic_files.PartialFile(path)
    assert list(tmp_path.iterdir()) == [other]
    assert other.read_text() == "theirs"
    process.kill()
    process.communicate()
    assert list(tmp_path.iterdir()) == [other]
    with atomic_files.atomic_write(path, "w") as stream:
        stream.write("ours")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "ours"


def write_file(path: Path) -> None:
    with atomic_files.atomic_write(path) as stream:
        stream.write(b"new")


def write_two_files(path: Path) -> None:
    with atomic_files.PartialFile(path) as first, atomic_files.PartialFile(f"{path}.json") as other:
        for partial in (first, other):
            partial.stream.write(b"new")
            partial.finish()
        first.commit()
        other.commit()


def write_folder(path: Path) -> None:
    with output_folder.complete_folder(path, "a program", {}) as folder:
        (folder / "file").write_bytes(b"new")


def use_temporary_folder(path: Path) -> None:
    with unfinished.temporary_folder() as folder:
        (folder / "file").write_bytes(b"new")


def interrupted(work: Callable[[Path], None], path: Path, moment: int) -> bool:
    """Does `work` with a signal at some line, call or return of ours; false if it ends before."""
    left = itertools.count(moment, -1)

    def trace(frame, event, argument):
        is_ours = frame.f_globals["__name__"].startswith(("data_prep.common.", "contextlib"))
        if is_ours and event != "exception" and next(left) == 0:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(path)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("work", [write_file, write_two_files, write_folder, use_temporary_folder])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_signal_at_any_moment_leaves_nothing_unfinished(
    work: Callable[[Path], None], is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for moment in itertools.count():
        folder = tmp_path / str(moment)
        folder.mkdir()
        if is_there:
            work(folder / "out")
        was_interrupted = interrupted(work, folder / "out", moment)
        unfinished.discard_all()
        assert {entry.name for entry in folder.iterdir()} <= {"out", "out.json"}, moment
        assert not list(temporary.iterdir()), moment
        for path in (p for p in folder.rglob("*") if p.is_file() and p.name != "conversion.json"):
            assert path.read_bytes() == b"new"
        if not was_interrupted:
            break
    assert moment > 20


def test_who_has_put_a_file_in_place_holds_it_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_SECONDS_TO_END", 0.0)
    path = tmp_path / "out"
    with atomic_files.PartialFile(path, "w") as first:
        first.stream.write("first")
        first.finish()
        first.commit()
        with pytest.raises(UserError, match="another program is writing it"):
            atomic_files.PartialFile(path)
        assert path.read_text() == "first"
    with atomic_files.atomic_write(path, "w") as stream:
        stream.write("second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_dead_abandoned_goes_without_a_wait_for_the_living(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (tmp_path / "out.0123abcd.partial").touch()
    with atomic_files.PartialFile(path) as living:
        (tmp_path / "out.0123abcd.partial").touch()
        atomic_files.remove_abandoned(path)
        assert len(list(tmp_path.iterdir())) == 1
        assert living.path == path


def test_a_folder_is_held_alone_or_together(tmp_path: Path) -> None:
    with (
        atomic_files.held(tmp_path, "one", together=True),
        atomic_files.held(tmp_path, "two", together=True),
        pytest.raises(UserError, match="another three writes there"),
        atomic_files.held(tmp_path, "three"),
    ):
        pass
    with (
        atomic_files.held(tmp_path, "one"),
        pytest.raises(UserError, match="another two writes there"),
        atomic_files.held(tmp_path, "two", together=True),
    ):
        pass


def test_names_that_only_look_alike_stay(tmp_path: Path) -> None:
    names = ["out.partial", "out.0123.partial", "out.0123abcg.partial", "xout.0123abcd.partial"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "out.0123abcd.partial").touch()
    with atomic_files.atomic_write(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["out", *names])


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EBADF])
def test_without_locks_a_leftover_stays_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "out.0123abcd.partial").touch()
    with atomic_files.atomic_write(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.0123abcd.partial"]
    assert "out.0123abcd.partial" in caplog.text
    with atomic_files.held(tmp_path, "test"):
        pass


def test_a_full_disk_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fdopen", full_disk.fdopen("out"))
    with (
        pytest.raises(OSError, match="No space left") as failure,
        atomic_files.atomic_write(tmp_path / "out") as stream,
    ):
        stream.write(b"x")
    assert failure.value.filename == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
