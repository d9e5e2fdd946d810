"""Progress: a bar on a terminal, a plain line now and then in a log file."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts work done and shows its rate and the time left.

    Usage:
        with Progress("format_notes", "notes", total=1000, rate_unit="words") as progress:
            progress.advance(1, rate=350)

    Args:
      description: what is being done.
      unit: what `advance` counts.
      total: how many there are; None if unknown, then no time left is shown.
      rate_unit: what the rate counts; `unit` when None.
      seconds_between_lines: how often a line is written where there is no terminal.
    """

    def __init__(
        self,
        description: str,
        unit: str,
        *,
        total: int | None = None,
        rate_unit: str | None = None,
        seconds_between_lines: float = _SECONDS_BETWEEN_LINES,
    ) -> None:
        self._description = description
        self._unit = unit
        self._total = total
        self._rate_unit = rate_unit or unit
        self._seconds_between_lines = seconds_between_lines
        self._done = 0
        self._rate_count = 0
        self._start = self._last_line = time.monotonic()
        self._bar = terminal_bar(unit, total=total, description=description)

    def advance(self, count: int, *, rate: int | None = None) -> None:
        """Counts `count` more units done, and `rate` more of what the rate counts."""
        self._done += count
        self._rate_count += count if rate is None else rate
        if self._bar is not None:
            if self._rate_unit != self._unit:
                self._bar.set_postfix_str(
                    f"{format_rate(self._rate())} {self._rate_unit}/s", refresh=False
                )
            self._bar.update(count)
        elif time.monotonic() - self._last_line >= self._seconds_between_lines:
            self._write_line()

    def skip(self, count: int) -> None:
        """Takes `count` units off the total: an earlier run has done them."""
        if self._total is not None:
            self._total -= count
            if self._bar is not None:
                self._bar.total = self._total

    def _rate(self) -> float:
        return self._rate_count / max(time.monotonic() - self._start, 1e-9)

    def _write_line(self) -> None:
        self._last_line = now = time.monotonic()
        done = f"{self._done:,}"
        left = ""
        if self._total:
            done += f" of {self._total:,}"
        if self._total and self._done:
            seconds = (now - self._start) / self._done * (self._total - self._done)
            left = f", {format_seconds(seconds)} left"
        _log.info(
            "%s: %s %s, %s %s/s%s",
            self._description, done, self._unit, format_rate(self._rate()), self._rate_unit, left,
        )  # fmt: skip

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def terminal_bar(
    unit: str, *, total: int | None, done: int = 0, description: str | None = None
) -> Any:
    """Returns a bar of tqdm's where there is a terminal, else None."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm(
        total=total, initial=done, desc=description, unit=f" {unit}", dynamic_ncols=True
    )  # fmt: skip


def format_rate(rate: float) -> str:
    """Returns a rate as a person reads it: `12,345`, `7.3`, `0.6`, `0.04`."""
    if rate >= 10 or rate == 0:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 0.1 else f"{rate:.1g}"


def format_seconds(seconds: float) -> str:
    """Returns a duration as a person says it: `42 s`, `7 min`, `3 h 20 min`, `17 d 4 h`."""
    whole = int(seconds + 0.5)
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
