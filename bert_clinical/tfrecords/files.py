"""Writes TFRecord files that appear with their sidecars when they are complete.

A path that ends in `.gz` is gzip, which TensorFlow calls `GZIP`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any, cast

from bert_clinical.tfrecords.sidecars import sidecar_path, write_sidecar
from data_prep.common import atomic_files


class TFRecordOutputs:
    """TFRecord files that get their names together; a context manager.

    After an exception nothing is left, and what stood under the names stays. Until the end of the
    block no other program can write these files or their sidecars.

    Args:
      paths: the final names; their folders must exist.

    Attributes:
      streams: what to write to, in the order of the paths.

    Raises:
      UserError: another program is writing one of them.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        with contextlib.ExitStack() as stack:
            if paths:
                stack.enter_context(atomic_files.naming(paths[0]))
            self._files = [stack.enter_context(atomic_files.PartialFile(path)) for path in paths]
            self.streams = [
                _compressing(file.stream) if _is_gzip(file.path) else file.stream
                for file in self._files
            ]
            self._stack = stack.pop_all()

    def finish(self) -> list[dict[str, Any]]:
        """Brings what was written to the disk and returns the files' fingerprints."""
        for file, stream in zip(self._files, self.streams, strict=True):
            if stream is not file.stream:
                stream.close()
            file.finish()
        return [file.fingerprint() for file in self._files]

    def commit(self, description: Mapping[str, Any]) -> None:
        """Gives the files, which are finished, their names, and then each its sidecar.

        A sidecar that stands from an earlier run is removed before, so that it never describes
        another file.
        """
        for file in self._files:
            sidecar_path(file.path).unlink(missing_ok=True)
            file.commit()
        for file in self._files:
            write_sidecar(file.path, description)

    def __enter__(self) -> TFRecordOutputs:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def _is_gzip(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(".gz")


def _compressing(file: IO[bytes]) -> IO[bytes]:
    # No name and no time in the header: the same examples are the same bytes.
    stream = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
    return cast(IO[bytes], stream)
