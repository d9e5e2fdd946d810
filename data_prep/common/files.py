"""Files of this machine and of every file system that Beam knows, by one set of functions.

A path with a scheme, such as gs://bucket/notes.csv, goes to Beam's FileSystems; any other is this
machine's, and nothing of Beam is imported for it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from data_prep.common import atomic_files, output_mode, paths
from data_prep.common.errors import UsageError, UserError

_BUFFER_BYTES = 1 << 20


def is_remote(path: str) -> bool:
    """Returns whether a path has a scheme."""
    return "://" in path


def set_options(options: Sequence[str]) -> None:
    """Tells the file systems the options of a pipeline, such as where an HDFS is.

    Those of `--beam_plugins` are imported: file systems that are not Beam's own.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

    parsed = PipelineOptions(list(options))
    for plugin in parsed.view_as(SetupOptions).beam_plugins or ():
        importlib.import_module(plugin)
    _file_systems().set_options(parsed)


def join(folder: str, name: str) -> str:
    """Returns the path of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def absolute(path: str) -> str:
    """Returns a path that means the same to every process."""
    return path if is_remote(path) else os.path.abspath(path)  # noqa: PTH100


@contextlib.contextmanager
def told_as_given(names: Iterable[str]) -> Iterator[None]:
    """Makes errors within the block call files as the user called them, not by `absolute`."""
    given = {absolute(name): name for name in names}
    try:
        yield
    except UserError as error:
        message = str(error)
        for place, name in given.items():
            message = message.replace(place, name)
        raise type(error)(message) from None


def remote_glob(pattern: str) -> list[str]:
    """Returns the files of a file system of Beam that a glob matches, sorted.

    Raises:
      UserError: the file system cannot be reached.
    """
    with _naming(pattern):
        (result,) = _file_systems().match([pattern])
    return sorted(metadata.path for metadata in result.metadata_list)


def find(folder: str, prefix: str) -> list[str]:
    """Returns the files of a folder whose names begin with `prefix`, none if it is not there."""
    if not is_remote(folder):
        return sorted(str(path) for path in Path(folder).glob(f"{prefix}*") if path.is_file())
    return remote_glob(join(folder, f"{prefix}*"))


def open_binary(path: str) -> IO[bytes]:
    """Opens a file for reading, as the bytes that it holds."""
    if not is_remote(path):
        return paths.open_local(path)
    from apache_beam.io.filesystem import CompressionTypes

    with _naming(path):
        return _file_systems().open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read(path: str) -> bytes:
    """Returns what stands in a file."""
    with open_binary(path) as stream:
        return stream.read()


def read_range(path: str, start: int, end: int) -> bytes:
    """Returns the bytes [start, end) of a file."""
    with open_binary(path) as stream:
        stream.seek(start)
        return stream.read(end - start)


def size(path: str) -> int | None:
    """Returns the size of a file in bytes, None if there is no such file."""
    if not is_remote(path):
        return Path(path).stat().st_size if Path(path).is_file() else None
    with _naming(path):
        (result,) = _file_systems().match([path])
    return result.metadata_list[0].size_in_bytes if result.metadata_list else None


def sha256(path: str) -> str:
    """Returns the SHA-256 of a file's bytes in hexadecimal."""
    with open_binary(path) as stream:
        digest = hashlib.sha256()
        while data := stream.read(_BUFFER_BYTES):
            digest.update(data)
        return digest.hexdigest()


def is_intact(path: str, recorded: object) -> bool:
    """Tells whether a file is the one that one of several recorded fingerprints was taken of.

    Args:
      path: the file.
      recorded: a list of `atomic_files.fingerprint` as read from JSON; anything else vouches for
        nothing.
    """
    found: dict[str, Any] = {"name": Path(path).name, "size_bytes": size(path)}
    if found["size_bytes"] is None or not isinstance(recorded, list):
        return False
    digests = [
        entry.get("sha256")
        for entry in recorded
        if isinstance(entry, dict) and found.items() <= entry.items()
    ]
    return bool(digests) and sha256(path) in digests


@contextlib.contextmanager
def create(path: str) -> Iterator[IO[bytes]]:
    """Opens a new file for writing, in a folder that is there. Nothing else may have its name."""
    if not is_remote(path):
        with atomic_files.naming(path):
            with Path(path).open("wb", buffering=_BUFFER_BYTES) as stream:
                yield stream
            atomic_files.sync(path)
        return
    from apache_beam.io.filesystem import CompressionTypes

    with _naming(path):
        remote = _file_systems().create(path, compression_type=CompressionTypes.UNCOMPRESSED)
    with remote as stream:
        yield stream


def write(path: str, data: bytes) -> None:
    """Writes a file that appears under its name only when it is complete.

    Several may write the same; the last one's stays. A kill leaves a partial file behind.
    """
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    with create(partial) as stream:
        stream.write(data)
    replace(partial, path)


def replace(source: str, destination: str) -> None:
    """Moves a file to a name, whatever had it before."""
    if not is_remote(destination):
        made = Path(source)
        output_mode.set_mode(made, output_mode.of_new_file())
        atomic_files.replace(made, Path(destination))
        return
    systems = _file_systems()
    with _naming(destination):
        if systems.exists(destination):
            systems.delete([destination])
        systems.rename([source], [destination])


def copy_in(source: str, destination: Path) -> None:
    """Copies a file to one of this machine."""
    with open_binary(source) as stream, destination.open("wb") as copy:
        shutil.copyfileobj(stream, copy, _BUFFER_BYTES)


def copy_out(source: Path, destination: str) -> None:
    """Copies a file of this machine to a name that nothing has."""
    with source.open("rb") as stream, create(destination) as copy:
        shutil.copyfileobj(stream, copy, _BUFFER_BYTES)


def make_folder(path: str) -> None:
    """Makes the folder --output_dir, where the file system has such, if it does not exist.

    Raises:
      UserError: a file is in its way.
    """
    if not is_remote(path):
        paths.make_folder(Path(path))
        return
    systems = _file_systems()
    with _naming(path):
        if systems.get_filesystem(path).has_dirs() and not systems.exists(path):
            systems.mkdirs(path)


def remove(path: str) -> None:
    """Removes a file if it is there."""
    if not is_remote(path):
        Path(path).unlink(missing_ok=True)
        return
    systems = _file_systems()
    with _naming(path):
        if systems.exists(path):
            systems.delete([path])


def remove_folder(path: str) -> None:
    """Removes a folder and what is in it, if it is there."""
    if not is_remote(path):
        if Path(path).is_dir():
            shutil.rmtree(path)
        return
    systems = _file_systems()
    with _naming(path):
        if systems.get_filesystem(path).has_dirs():
            if systems.exists(path):
                systems.delete([path])
            return
        (result,) = systems.match([join(path, "**")])
        if result.metadata_list:
            systems.delete([metadata.path for metadata in result.metadata_list])


class Folder:
    """A folder by its path, of this machine or any other file system."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __str__(self) -> str:
        return self._path.rstrip("/")

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes, None if there is none."""
        return size(join(self._path, name))

    def read(self, name: str) -> bytes:
        """Returns what stands in a file."""
        return read(join(self._path, name))

    def sha256(self, name: str) -> str:
        """Returns the SHA-256 of a file in hexadecimal."""
        return sha256(join(self._path, name))


@functools.cache
def _file_systems() -> Any:
    # Beam says what else could be installed; that is for the manual.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        from apache_beam.io.filesystems import FileSystems
    finally:
        logging.disable(before)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    return FileSystems


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Says which path a file system of Beam failed on, and that it may be missing."""
    from apache_beam.io.filesystem import BeamIOError

    try:
        yield
    except ValueError:
        scheme = path.partition("://")[0]
        raise UsageError(
            f"{path}: Beam knows no file system {scheme}:// here; install what it needs, such as "
            "pip install 'apache-beam[gcp]' for gs:// or 'apache-beam[aws]' for s3://"
        ) from None
    except BeamIOError as error:
        kinds = {type(cause).__name__ for cause in (error.exception_details or {}).values()}
        raise UserError(
            f"{path}: the file system answered {', '.join(sorted(kinds)) or type(error).__name__}; "
            "check the path and who may read or write there"
        ) from None
