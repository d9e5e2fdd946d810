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
    with contextlib.ExitStack() as stack:
        if paths:
            stack.enter_context(atomic_files.naming(paths[0]))
        files = [stack.enter_context(atomic_files.PartialFile(path)) for path in paths]
        streams = [
            _compressing(file.stream) if _is_gzip(file.path) else file.stream for file in files
        ]
        yield streams
        for file, stream in zip(files, streams, strict=True):
            if stream is not file.stream:
                stream.close()
            file.finish()
        for file in files:
            sidecar_path(file.path).unlink(missing_ok=True)
            file.commit()


def _is_gzip(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(".gz")


def _compressing(file: IO[bytes]) -> IO[bytes]:
    # No name and no time in the header: the same examples are the same bytes.
    stream = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
    return cast(IO[bytes], stream)
