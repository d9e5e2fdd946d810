"""Files that appear under their names only when they are complete and on the disk.

Until then a file stands beside its final name as `<name>.<8 hexadecimal digits>.partial`. Such a
name belongs to one writer, who holds a lock on the file while it lives. So the next writer of the
same output can tell work in progress, before which it stops, from what a killed program has left,
which it removes. A killed program leaves no lock behind.

What a signal finds unfinished is removed at the end of the program at the latest (`unfinished`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from data_prep.common import output_mode, unfinished
from data_prep.common.errors import UserError
from data_prep.common.locks import lock

_log = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"

_PARTIAL_NAME = re.compile(r"(.+)\.[0-9a-f]{8}\.partial", re.DOTALL)

_HERE, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE_THERE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
# The kernel ends the workers of a killed program at once, but not before the program itself.
_SECONDS_TO_END = 5.0


class PartialFile:
    """A file on its way to its final name; a context manager that discards what is not committed.

    Several are put in place together by calling `finish` on all before `commit` on the first. Until
    the end of the block nobody else can write the file, also after `commit`.

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
            _require_unwritten(self.path)
        except BaseException:
            unfinished.discard(self._partial)
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

    def fingerprint(self) -> dict[str, Any]:
        """Returns the `fingerprint` that the file, which is finished, has under its final name."""
        return {**fingerprint(self._partial), "name": self.path.name}

    def commit(self) -> None:
        """Gives the file, which is finished, its final name."""
        replace(self._partial, self.path)
        unfinished.forget(self._partial)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *exception: object) -> None:
        unfinished.discard(self._partial)
        # Closing gives up the lock, and writes what is buffered; a file that is committed has
        # nothing in the buffer, and of any other it does not matter.
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
            unfinished.discard(partial)
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
        if leftover != but and not _removed(leftover, _SECONDS_TO_END):
            raise _writes_already(path)


def remove_abandoned(path: Path) -> None:
    """Removes what killed programs have left of `path`; what a living one writes stays."""
    for leftover in unique_names(path, PARTIAL_SUFFIX):
        _removed(leftover, 0.0)


def final_name(name: str) -> str | None:
    """Returns what the partial file or folder of a name is to be called; None for other names."""
    match = _PARTIAL_NAME.fullmatch(name)
    return match[1] if match else None


def unique_names(path: Path, suffix: str) -> list[Path]:
    """Returns what stands beside `path` under names that `unique_name` makes, sorted."""
    names = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}" + re.escape(suffix))
    return sorted(entry for entry in path.parent.iterdir() if names.fullmatch(entry.name))


def unique_name(path: Path, suffix: str) -> Path:
    """Returns a name beside `path` that nobody else will choose."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{suffix}")


def replace(source: Path, target: Path) -> None:
    """Moves a file or folder to another name in the same file system, for good.

    It takes over the mode of what is there.
    """
    output_mode.keep(target, source)
    source.replace(target)
    sync(target.parent)


def exchange(first: Path, second: Path) -> bool:
    """Lets two files or folders change names in one step; false where that cannot be done."""
    names = [os.fsencode(path.absolute()) for path in (first, second)]
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        if code not in _NO_EXCHANGE_THERE:
            raise OSError(code, os.strerror(code), os.fspath(second))
        return False
    sync(second.parent)
    return True


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
def held(folder: str | os.PathLike[str], what: str, *, together: bool = False) -> Iterator[None]:
    """Holds a folder for this process, so that no other that would hold it writes there.

    The lock ends with the process. A file system without locks is taken as it is.

    Args:
      folder: exists.
      what: who writes there, for the error of another.
      together: with all others who say so too, but not with one who wants it alone.

    Raises:
      UserError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if lock(descriptor, shared=together) is False:
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


def _create_file(path: Path) -> tuple[Path, int]:
    """Returns a new file beside `path` and a descriptor that holds its lock."""
    while True:
        partial = unfinished.note(unique_name(path, PARTIAL_SUFFIX))
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if _owns(descriptor, partial):
            return partial, descriptor
        os.close(descriptor)
        unfinished.forget(partial)


def _create_folder(path: Path) -> tuple[Path, int]:
    """Returns a new folder beside `path` and a descriptor that holds its lock."""
    while True:
        partial = unfinished.note(unique_name(path, PARTIAL_SUFFIX))
        partial.mkdir()
        # Else another took it for a leftover before it could be locked.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
            if _owns(descriptor, partial):
                return partial, descriptor
            os.close(descriptor)
        unfinished.forget(partial)


def _owns(descriptor: int, path: Path) -> bool:
    """Locks what was just made; false if another took it for a leftover before."""
    if lock(descriptor) is False:
        return False
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _require_unwritten(path: Path) -> None:
    """Raises `UserError` if who put `path` in place still holds it."""
    try:
        # A pipe of this name would otherwise wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if lock(descriptor, shared=True, seconds=_SECONDS_TO_END) is False:
            raise _writes_already(path)
    finally:
        os.close(descriptor)


def _writes_already(path: Path) -> UserError:
    return UserError(
        f"{path}: another program is writing it; wait for its end, or choose another output"
    )


def _removed(leftover: Path, seconds: float) -> bool:
    """Removes what a killed writer has left; false if its writer still lives after some seconds."""
    try:
        descriptor = os.open(leftover, os.O_RDONLY if leftover.is_dir() else os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        locked = lock(descriptor, seconds=seconds)
        if locked is False:
            return False
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
        return True
    finally:
        os.close(descriptor)
