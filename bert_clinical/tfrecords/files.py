"""Opens the TFRecord files that a program writes.

A path that ends in `.gz` is gzip, which TensorFlow calls `GZIP`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator, Sequence
from typing import IO, cast

from bert_clinical.tfrecords.sidecars import sidecar_path
from data_prep.common import atomic_files


@contextlib.contextmanager
def open_outputs(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[IO[bytes]]]:
    """Opens TFRecord files for writing; they get their names together, when the block ends well.

    A sidecar that stands from an earlier run is removed before, so that it never describes
    another file. After an exception nothing is left, and what stood under the names stays.

    Args:
      paths: the final names; their folders must exist.
    """
    partials = [atomic_files.partial_path(path) for path in paths]
    files: list[IO[bytes]] = []
    streams: list[IO[bytes]] = []
    try:
        with contextlib.ExitStack() as stack:
            for path, partial in zip(paths, partials, strict=True):
                files.append(stack.enter_context(partial.open("wb")))
                streams.append(_compressing(files[-1]) if _is_gzip(path) else files[-1])
            yield streams
            for stream, file in zip(streams, files, strict=True):
                if stream is not file:
                    stream.close()
                file.flush()
                os.fsync(file.fileno())
        for path in paths:
            sidecar_path(path).unlink(missing_ok=True)
            atomic_files.commit(path)
    except BaseException as error:
        for partial in partials[: len(files)]:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            # A failed write does not say which file it was.
            raise OSError(error.errno, error.strerror, os.fspath(paths[0])) from None
        raise


def _is_gzip(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(".gz")


def _compressing(file: IO[bytes]) -> IO[bytes]:
    # No name and no time in the header: the same examples are the same bytes.
    stream = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
    return cast(IO[bytes], stream)
