"""Where a run on Beam keeps what is not complete: a folder within that of the output."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Self

from data_prep.common import files


class Staging:
    """A folder for what is not complete; a context manager, after which it is gone.

    What an earlier run left there goes first, so only one run at a time may have it.

    Args:
      path: the folder; all workers reach it under this path.

    Attributes:
      run: the part of this run.
      stays: whether what lies beside the runs' parts stays there for the next run.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._runs = files.join(path, "runs")
        self.run = files.join(self._runs, uuid.uuid4().hex)
        self.stays = False

    def place(self, name: str, data: bytes, output_dir: str) -> None:
        """Writes a file of the output; what a kill leaves of it lies in this folder."""
        temporary = files.join(self.run, name)
        with files.create(temporary) as stream:
            stream.write(data)
        files.replace(temporary, files.join(output_dir, name))

    def __enter__(self) -> Self:
        self._remove()
        files.make_folder(self.run)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        files.remove_folder(self._runs if self.stays else self.path)
