"""Files that appear under their names only when they are complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from data_prep.common.program import UserError

PARTIAL_SUFFIX = ".partial"

_NO_LOCKS_THERE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def partial_path(path: str | os.PathLike[str]) -> Path:
    """Returns the name under which `path` is written until it is complete."""
    path = Path(path)
    return path.with_name(path.name + PARTIAL_SUFFIX)


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "wb", *, encoding: str | None = None
) -> Iterator[IO[Any]]:
    """Opens `<path>.partial` for writing and moves it to `path` when the block ends well.

    After an exception the partial file is removed and `path` is as it was. After a kill a stale
    partial file may stay; the next run writes over it.

    Args:
      path: the final name.
      mode: "wb" or "w"; text is UTF-8 with newlines as they are unless `encoding` says otherwise.
      encoding: for mode "w".
    """
    partial = partial_path(path)
    text = "b" not in mode
    stream = partial.open(
        mode, encoding=(encoding or "utf-8") if text else None, newline="" if text else None
    )
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        commit(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
        raise


def commit(path: str | os.PathLike[str]) -> None:
    """Moves `<path>.partial`, already complete and on the disk, to `path`."""
    path = Path(path)
    partial_path(path).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def held(folder: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Holds a folder for this process, so that no other that would hold it writes there.

    A file system without locks is taken as it is.

    Args:
      folder: exists.
      what: who writes there, for the error of another.

    Raises:
      UserError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{os.fspath(folder)}: another {what} writes there; wait for its end, or choose "
                "another --output_dir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS_THERE:
                raise
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
