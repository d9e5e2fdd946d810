"""What is said of a pipeline while it runs: that workers work, and how far they are.

Flink and Spark tell a job's counters only when it has ended, the DirectRunner likewise. So every
worker process keeps a small file of its own counters in the staging folder, which the program reads
now and then. They are for the eye: work that a runner repeats is counted again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import platform
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data_prep.common import files as beam_files
from data_prep.common.errors import UserError
from data_prep.common.progress import Progress

_log = logging.getLogger(__name__)

PREFIX = "progress-"
_SECONDS_BETWEEN_WRITES = 5.0
_SECONDS_BETWEEN_LOOKS = {False: 2.0, True: 20.0}
"""By whether the folder is remote, where each look is as many requests as there are workers."""

_SECONDS_WITHOUT_WORKER = 60.0


def begin(staging: str) -> None:
    """Says that this process works. Called by the first steps of a pipeline when they are set up.

    Raises:
      UserError: the folder of the run is not there for this process.
    """
    if not beam_files.is_remote(staging) and not Path(staging).is_dir():
        raise UserError(
            f"{staging} is not there for a worker on {platform.node()}; --output_dir must be a "
            "folder that all workers and this program reach under the same path"
        )
    _counters(staging).add({})


def add(staging: str, **counts: int) -> None:
    """Adds to the counters of this process."""
    _counters(staging).add(counts)


class _Counters:
    """The counters of a process, and their file, which is at most some seconds behind."""

    def __init__(self, staging: str) -> None:
        self._path = beam_files.join(staging, f"{PREFIX}{uuid.uuid4().hex}.json")
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._next_write = 0.0

    def add(self, counts: dict[str, int]) -> None:
        with self._lock:
            self._counts.update(counts)
            if time.monotonic() < self._next_write:
                return
            self._next_write = time.monotonic() + _SECONDS_BETWEEN_WRITES
            # Nothing follows from these files. Storage that fails is met again by the work itself.
            with contextlib.suppress(OSError, UserError):
                beam_files.write(self._path, json.dumps(self._counts).encode())


@functools.lru_cache(maxsize=1)
def _counters(staging: str) -> _Counters:
    return _Counters(staging)


class Phase(NamedTuple):
    """What the workers of a pipeline are at.

    Attributes:
      unit: the counter of what is done, such as notes.
      rate_unit: the counter whose rate is shown.
      total: how many of `unit` there are; None if unknown.
    """

    unit: str
    rate_unit: str
    total: int | None


class Watch:
    """Looks at the workers' counters and says how far they are; a context manager.

    Args:
      staging: folder of the run.
      phase: says what they are at, whenever they are looked at.
      seconds_between_lines: how often a line is written where there is no terminal.
    """

    def __init__(
        self,
        staging: str,
        phase: Callable[[], Phase],
        *,
        seconds_between_lines: float = 30.0,
    ) -> None:
        self._staging = staging
        self._phase_now = phase
        self._phase: Phase | None = None
        self._seconds_between_lines = seconds_between_lines
        self._start = self._last_look = time.monotonic()
        self._progress: Progress | None = None
        self._shown: Counter[str] = Counter()
        self._has_said_that_nobody_works = False

    def look(self, where_to_look: str) -> None:
        """Says what there is to say, if it is time to.

        Args:
          where_to_look: by the user, while no worker has begun.
        """
        now = time.monotonic()
        if now - self._last_look < _SECONDS_BETWEEN_LOOKS[beam_files.is_remote(self._staging)]:
            return
        self._last_look = now
        counts = self._counts()
        if counts is not None:
            self._show(counts)
        elif now - self._start > _SECONDS_WITHOUT_WORKER and not self._has_said_that_nobody_works:
            self._has_said_that_nobody_works = True
            _log.info(
                "No worker has begun after %d s. Look %s",
                _SECONDS_WITHOUT_WORKER, where_to_look,
            )  # fmt: skip

    def _counts(self) -> Counter[str] | None:
        """Returns the sum of all workers' counters, None if there is no worker yet."""
        counts: Counter[str] | None = None
        # A look that fails changes nothing; the next one may not.
        with contextlib.suppress(OSError, UserError):
            for path in beam_files.find(self._staging, PREFIX):
                counts = (counts or Counter()) + Counter(json.loads(beam_files.read(path)))
        return counts

    def _show(self, counts: Counter[str]) -> None:
        progress, (unit, rate_unit, total) = self._of_phase(self._phase_now())
        if total is not None:
            counts[unit] = min(counts[unit], total)
        # A worker that died took its latest counters with it.
        more = {name: max(counts[name] - self._shown[name], 0) for name in counts}
        self._shown |= counts
        progress.advance(more.get(unit, 0), rate=more.get(rate_unit, 0))

    def _of_phase(self, phase: Phase) -> tuple[Progress, Phase]:
        if self._progress is None or phase != self._phase:
            self._end_phase()
            self._phase = phase
            self._progress = Progress(
                "workers",
                phase.unit,
                total=phase.total,
                rate_unit=phase.rate_unit,
                seconds_between_lines=self._seconds_between_lines,
            )
        return self._progress, phase

    def _end_phase(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)

    def __enter__(self) -> Watch:
        # What an earlier pipeline of the run left says nothing of this one's workers.
        for path in beam_files.find(self._staging, PREFIX):
            beam_files.remove(path)
        return self

    def __exit__(self, *exception: object) -> None:
        self._end_phase()
