"""Stands in the place of Python for shell scripts under test: TensorFlow is imported already.

  python -I -S warm_python.py ADDRESS -m MODULE ARGUMENT...

asks the process at ADDRESS (`warm_programs`) for a run of a program of TensorFlow's, hands it the
signals that come here, and ends as it does. Whatever else Python is asked to do it does itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST_REQUEST = 1 << 20
_MOST_DESCRIPTORS = 4
_PACKAGE = "bert_clinical."


def asked(
    address: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    streams: Sequence[int],
) -> socket.socket:
    """Asks for a run.

    Args:
      address: of the process that forks the runs.
      arguments: as Python is given them.
      environment: of the run.
      folder: in which it runs.
      streams: descriptors of its three streams; and one that it is told as its last argument.

    Returns:
      What says the run's process id at its begin and its exit status at its end.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_REQUEST)
    connection.connect(address)
    values = {"arguments": arguments, "environment": dict(environment), "folder": folder}
    socket.send_fds(connection, [json.dumps(values).encode()], list(streams))
    return connection


def request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Returns what is asked for, with the streams of the run."""
    data, streams, _, _ = socket.recv_fds(connection, _LONGEST_REQUEST, _MOST_DESCRIPTORS)
    return json.loads(data), list(streams)


def tell(connection: socket.socket, number: int) -> None:
    """Says a number, unless nobody waits for it any more."""
    with contextlib.suppress(BrokenPipeError):
        connection.send(str(number).encode())


def received(connection: socket.socket) -> int:
    """Waits for a number that `tell` says."""
    data = connection.recv(64)
    if not data:
        raise ConnectionError("the process that forks the runs has ended")
    return int(data)


def _main(address: str, *arguments: str) -> None:
    if arguments[:1] != ("-m",) or not arguments[1].startswith(_PACKAGE):
        os.execv(sys.executable, [sys.executable, *arguments])
    # What comes before the run has begun waits until then.
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    connection = asked(address, arguments, os.environ, os.getcwd(), range(3))  # noqa: PTH109
    pid = received(connection)
    for number in signals:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    status = received(connection)
    if status < 0:
        if status != -signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    _main(*sys.argv[1:])
