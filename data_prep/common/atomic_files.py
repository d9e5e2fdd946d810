"""Files that appear under their names only when they are complete and on the disk.

Until then a file stands beside its final name as `<name>.<8 hexadecimal digits>.partial`. Such a
name belongs to one writer, who holds a lock on the file while it lives. So the next writer of the
same output can tell work in progress, before which it stops, from what a killed program has left,
which it removes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO, Any

from data_prep.common import output_mode
from data_prep.common.errors import UserError

_log = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"

_PARTIAL_NAME = re.compile(r"(.+)\.[0-9a-f]{8}\.partial", re.DOTALL)

# EBADF: NFS locks only what is open for writing, which a folder never is.
_NO_LOCKS_THERE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF)
# The kernel ends the workers of a killed program at once, but not before the program itself.
_SECONDS_TO_END = 5.0
_SECONDS_BETWEEN_LOOKS = 0.05


class PartialFile:
    """A file on its way to its final name; a context manager that discards what is not committed.

    Several are put in place together by calling `finish` on all before `commit` on the first.

    Args:
      path: the final name; its folder exists.
      mode: "wb" or "w"; text is UTF-8 with newlines as they are unless `encoding` says otherwise.
      encoding: for mode "w".

    Attributes:
      path: the final name.
      stream: what to write to.

    Raises:
      UserError: another program is writing the same file.
    """

    def __init__(
        self, path: str | os.PathLike[str], mode: str = "wb", *, encoding: str | None = None
    ) -> None:
        self.path = Path(path)
        self._partial, descriptor = _create_file(self.path)
        try:
            remove_leftovers(self.path, but=self._partial)
        except BaseException:
            self._partial.unlink()
            os.close(descriptor)
            raise
        text = "b" not in mode
        self.stream: IO[Any] = os.fdopen(
            descriptor,
            mode,
            encoding=(encoding or "utf-8") if text else None,
            newline="" if text else None,
        )

    def finish(self) -> None:
        """Brings what was written to the disk."""
        with naming(self.path):
            self.stream.flush()
            os.fsync(self.stream.fileno())

    def commit(self) -> None:
        """Gives the file, which is finished, its final name."""
        replace(self._partial, self.path)
        # Only now, since closing gives up the lock.
        self.stream.close()

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.stream.closed:
            self._partial.unlink(missing_ok=True)
            # Closing writes what is buffered; where that fails, it is lost with the file anyway.
            with contextlib.suppress(OSError):
                self.stream.close()


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "wb", *, encoding: str | None = None
) -> Iterator[IO[Any]]:
    """Opens a partial file for writing and moves it to `path` when the block ends well.

    After an exception the partial file is removed and `path` is as it was.

    Args:
      path: the final name.
      mode: "wb" or "w"; text is UTF-8 with newlines as they are unless `encoding` says otherwise.
      encoding: for mode "w".

    Raises:
      UserError: another program is writing the same file.
      OSError: names the file also where a write failed.
    """
    with naming(path), PartialFile(path, mode, encoding=encoding) as partial:
        yield partial.stream
        partial.finish()
        partial.commit()


@contextlib.contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Makes a folder under a name of its own beside `path`, for the caller to fill and to move.

    What is still under that name at the end of the block is removed.

    Args:
      path: the final name; the folder above it exists.

    Raises:
      UserError: another program is writing the same folder.
      OSError: in the block; names `path` where a write failed.
    """
    partial, descriptor = _create_folder(path)
    try:
        remove_leftovers(path, but=partial)
        with naming(path):
            yield partial
    finally:
        try:
            if partial.exists():
                shutil.rmtree(partial)
        finally:
            os.close(descriptor)


def remove_leftovers(path: Path, *, but: Path | None = None) -> None:
    """Removes what killed programs have left of `path`, a file or a folder.

    On a file system without locks nobody can tell whether their writers live; there they stay.

    Args:
      path: the final name.
      but: the partial file or folder of the caller. It exists before this call, so that of two
        programs that start together at least one sees the other.

    Raises:
      UserError: another program is writing `path` now.
    """
    for leftover in unique_names(path, PARTIAL_SUFFIX):
        if leftover != but:
            _remove_leftover(leftover, path)


def is_leftover_of(name: str, names: Container[str]) -> bool:
    """Tells whether a file's name is that of a partial file of one of `names`."""
    match = _PARTIAL_NAME.fullmatch(name)
    return match is not None and match[1] in names


def unique_names(path: Path, suffix: str) -> list[Path]:
    """Returns what stands beside `path` under names that `unique_name` makes, sorted."""
    names = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}" + re.escape(suffix))
    return sorted(entry for entry in path.parent.iterdir() if names.fullmatch(entry.name))


def unique_name(path: Path, suffix: str) -> Path:
    """Returns a name beside `path` that nobody else will choose."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{suffix}")


def replace(source: Path, target: Path) -> None:
    """Moves a file or folder to a name in the same folder, for good; what is there has its mode."""
    output_mode.keep(target, source)
    source.replace(target)
    sync(target.parent)


def sync(path: str | os.PathLike[str]) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Says which file it was: a failed write, unlike a failed open, does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise


@contextlib.contextmanager
def held(folder: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Holds a folder for this process, so that no other that would hold it writes there.

    The lock ends with the process. A file system without locks is taken as it is.

    Args:
      folder: exists.
      what: who writes there, for the error of another.

    Raises:
      UserError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _lock(descriptor) is False:
            raise UserError(
                f"{os.fspath(folder)}: another {what} writes there; wait for its end, or choose "
                "another --output_dir"
            )
        yield
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, complete or not at all."""
    with atomic_write(path, "w") as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns by what a file is known again: `name` without the folder, `size_bytes`, `sha256`."""
    path = Path(path)
    return {
        "name": path.name,
        "size_bytes": path.stat().st_size,
        "sha256": sha256_of_file(path),
    }


def is_intact(path: Path, recorded: object) -> bool:
    """Tells whether a file is the one that one of several recorded fingerprints was taken of.

    Args:
      path: the file.
      recorded: a list of `fingerprint` as read from JSON; anything else vouches for nothing.
    """
    if not isinstance(recorded, list) or not path.is_file():
        return False
    same_size = {"name": path.name, "size_bytes": path.stat().st_size}
    candidates = [
        entry
        for entry in recorded
        if isinstance(entry, dict) and same_size.items() <= entry.items()
    ]
    return bool(candidates) and fingerprint(path) in candidates


def _create_file(path: Path) -> tuple[Path, int]:
    """Returns a new file beside `path` and a descriptor that holds its lock."""
    while True:
        partial = unique_name(path, PARTIAL_SUFFIX)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if _owns(descriptor, partial):
            return partial, descriptor
        os.close(descriptor)


def _create_folder(path: Path) -> tuple[Path, int]:
    """Returns a new folder beside `path` and a descriptor that holds its lock."""
    while True:
        partial = unique_name(path, PARTIAL_SUFFIX)
        partial.mkdir()
        try:
            descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            # Taken for a leftover before it could be locked.
            continue
        if _owns(descriptor, partial):
            return partial, descriptor
        os.close(descriptor)


def _owns(descriptor: int, path: Path) -> bool:
    """Locks what was just made; false if another took it for a leftover before."""
    if _lock(descriptor) is False:
        return False
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_leftover(leftover: Path, path: Path) -> None:
    """Removes what a killed writer of `path` left; raises `UserError` if the writer lives."""
    try:
        descriptor = os.open(leftover, os.O_RDONLY if leftover.is_dir() else os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        give_up = time.monotonic() + _SECONDS_TO_END
        while (locked := _lock(descriptor)) is False:
            if time.monotonic() > give_up:
                raise UserError(
                    f"{path}: another program is writing it; wait for its end, or choose another "
                    "output"
                )
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if locked is None:
            _log.warning(
                "%s is of a program that was killed or still runs; the file system has no locks "
                "to tell; remove it if none runs",
                leftover,
            )
        elif leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Locks an open file or folder until it is closed.

    Returns:
      True if it is locked now, False if another process has it, None if there are no locks there.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS_THERE:
            raise
        return None
    return True
