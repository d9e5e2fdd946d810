"""Signals that ask work in steps for an early end: the step under way is finished first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from data_prep.common import program


class Stopped(Exception):  # noqa: N818
    """Work ended early because it was asked to; what was done of it is saved.

    Args:
      number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


@dataclass
class StopRequest:
    """Set from a signal handler, read between two steps.

    Attributes:
      signal_number: the signal that asked for it, 0 for none.
      armed: whether there are steps to finish; otherwise a signal ends the program at once.
    """

    signal_number: int = 0
    armed: bool = True

    def raise_if_asked(self) -> None:
        """Raises `Stopped` if a signal has asked for an end."""
        if self.signal_number:
            raise Stopped(self.signal_number)


@contextmanager
def stop_on_signals(*, armed: bool = True) -> Iterator[StopRequest]:
    """Turns the signals that end a program, Ctrl-C included, into a request within the block.

    While it stops, further ones change nothing: systemd and SLURM send theirs to every process of a
    job, and a script hands them on once more. Only a second Ctrl-C ends the program at once.
    """
    stop = StopRequest(armed=armed)

    def handle(number: int, _: object) -> None:
        if not stop.armed or stop.signal_number == signal.SIGINT == number:
            program.end_by(SystemExit(128 + number))
        stop.signal_number = stop.signal_number or number

    numbers = (*program.ending_signals(), signal.SIGINT)
    former = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
