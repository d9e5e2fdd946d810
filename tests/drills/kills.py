"""Kills a program at a chosen one of its calls that change a file, whoever makes the call.

Or sends it another signal there, or has the disk be full from there on.

The kernel stops every such call of the program, of its threads and of its workers, Python or C++,
and asks us (seccomp's user notification) before it is carried out. We count those that concern
files below one folder and kill at the one that was chosen. So the folder is left as a kill at that
moment leaves it. Needs Linux 5.9, and no right beyond that of any user.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import fcntl
import math
import os
import re
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from tests.drills.changing_calls import FILLING, MACHINE, NAMES, OPENING, concerned
from tests.running import HANG_SECONDS

NO_SPACE = 0
"""Stands for the signal where the disk is full from the call on."""

_SECCOMP = {"x86_64": 317, "aarch64": 277}

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 8, 32
_ALLOW, _USER_NOTIF = 0x7FFF0000, 0x7FC00000
_NOTIFICATION = struct.Struct("=QII iI Q 6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE = (3 << 30) | (_NOTIFICATION.size << 16) | (0x21 << 8)
_SEND = (3 << 30) | (_RESPONSE.size << 16) | (0x21 << 8) | 1
_CONTINUE = 1
_MILLISECONDS_BETWEEN_LOOKS = 20
_DELETED = " (deleted)"
"""Ends the path of a file that has no name any more, as the kernel gives it."""
_TELL_WHERE = signal.SIGRTMIN
"""Has a program write the stacks of its threads to its log."""
_SECONDS_TO_TELL, _SECONDS_TO_END = 2.0, 60.0

Victim = Literal["program", "worker", "group"]
"""Who gets the signal: the program, the process that makes the call or the first worker, or the
program with all its workers, as at Ctrl-C."""


class Outcome(NamedTuple):
    """What came of a program.

    Attributes:
      calls: how many calls that change a file it began, the one of its kill included.
      status: its exit status, `-SIGKILL` where it was killed.
      last: the last such call and what it concerned, for reading.
    """

    calls: int
    status: int
    last: str


def run(
    work: Callable[[], int],
    folder: Path,
    *,
    kill_at: int | None = None,
    kill_after: float | None = None,
    victim: Victim = "program",
    number: int = signal.SIGKILL,
    log: Path,
    limit: float = HANG_SECONDS,
) -> Outcome:
    """Calls `work` in a child of this process, and kills it at one of its calls that change a file.

    Args:
      work: returns an exit status; this process must have no threads that it needs.
      folder: only changes below it count.
      kill_at: at the call of this number, counted from 0. After another signal than SIGKILL the
        call is carried out, and the signal waits for its end; at the next one it comes once more.
      kill_after: after some seconds, whatever it does. Without either it comes to its end.
      victim: who gets the signal.
      number: of the signal; with `NO_SPACE` that call and all that follow fail for want of space.
      log: where standard output and error of the program go; outside of `folder`.
      limit: seconds after which it hangs.

    Raises:
      TimeoutError: it hangs; says where. It has been killed.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_the_program(work, theirs, log)
    theirs.close()
    with ours:
        _, listeners, _, _ = socket.recv_fds(ours, 1, 1)
    if not listeners:
        os.waitpid(pid, 0)
        raise OSError(f"the kernel does not ask about a program's calls: {log.read_text()}")
    (listener,) = listeners
    try:
        watched = _Watched(pid, listener, os.path.realpath(folder), number, victim)
        outcome = watched.to_the_end(kill_at, kill_after, time.monotonic() + limit)
        if outcome is None:
            told = f"hangs after {limit:.0f} s: {_doing(pid)}"
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, _TELL_WHERE)
                # What it writes asks us, too.
                watched.to_the_end(None, None, time.monotonic() + _SECONDS_TO_TELL)
                os.killpg(pid, signal.SIGKILL)
                watched.to_the_end(None, None, time.monotonic() + _SECONDS_TO_END)
            raise TimeoutError(f"{told}; Python's stacks: {_stacks(log)}")
        return outcome
    finally:
        os.close(listener)


def _doing(pid: int) -> str:
    """Says what each process of a program is doing."""
    found = []
    for process in _group(pid):
        folder = Path(f"/proc/{process}")
        with _of_the_living():
            state = re.search(r"^State:\s*(\S)", (folder / "status").read_text(), re.MULTILINE)
            name = (folder / "comm").read_text().strip()
            waits = (folder / "wchan").read_text()
            found.append(f"process {process} ({name}, {state and state[1]}) in {waits or '?'}")
    return ", ".join(found)


def _stacks(log: Path) -> str:
    """Returns in one line the frames that `_TELL_WHERE` had a program write."""
    frames = re.findall(r'File "(.+)", line (\d+) in (\S+)', log.read_text())
    return "; ".join(f"{Path(file).name}:{line} {name}" for file, line, name in frames[:20])


def _be_the_program(work: Callable[[], int], parent: socket.socket, log: Path) -> NoReturn:
    status = 99
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(said, descriptor)
        os.setpgid(0, 0)
        faulthandler.register(_TELL_WHERE, said)
        listener = _install_filter()
        socket.send_fds(parent, [b"x"], [listener])
        os.close(listener)
        parent.close()
        status = work()
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(status)


def _install_filter() -> int:
    """Has the kernel ask about our calls; returns the descriptor on which it does."""
    # struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits.
    load, equals, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    program: list[tuple[int, int, int, int]] = [(load, 0, 0, 0)]
    for number, name in NAMES.items():
        if name in OPENING:
            program += [
                (equals, 0, 4, number),
                (load, 0, 0, 16 + 8 * OPENING[name]),
                (any_bit, 1, 0, os.O_CREAT | os.O_TRUNC),
                (answer, 0, 0, _ALLOW),
                (answer, 0, 0, _USER_NOTIF),
            ]
        else:
            program += [(equals, 0, 1, number), (answer, 0, 0, _USER_NOTIF)]
    program.append((answer, 0, 0, _ALLOW))
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    # Else a signal would break off the call that we are asked about; Linux before 5.19 cannot.
    for how in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        listener = libc.syscall(_SECCOMP[MACHINE], _SET_MODE_FILTER, how, header)
        if listener >= 0:
            break
    else:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


class _Watched:
    """A program whose calls the kernel asks about."""

    def __init__(self, pid: int, listener: int, folder: str, number: int, victim: Victim) -> None:
        self._pid = pid
        self._listener = listener
        self._folder = folder
        self._number = number
        self._victim = victim
        self._calls = 0
        self._last = ""
        self._killed = False
        self._is_full = False
        self._is_told_again = False

    def to_the_end(
        self, kill_at: int | None, kill_after: float | None, give_up: float
    ) -> Outcome | None:
        """Answers until the program and its workers have ended; None if they never do."""
        status: int | None = None
        end = math.inf if kill_after is None else time.monotonic() + kill_after
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while time.monotonic() < give_up:
            if status is None:
                # At once, or a worker would wait for its parent's end in vain.
                ended, code = os.waitpid(self._pid, os.WNOHANG)
                status = os.waitstatus_to_exitcode(code) if ended else None
            if status is None and not self._killed and time.monotonic() > end:
                workers = _children(self._pid) if self._victim == "worker" else []
                self._kill(workers[0] if workers else self._pid)
            for _, event in poll.poll(_MILLISECONDS_BETWEEN_LOOKS):
                if event & select.POLLIN:
                    self._answer(kill_at)
                elif event & (select.POLLHUP | select.POLLERR):
                    if status is None:
                        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
                    return Outcome(self._calls, status, self._last)
        return None

    def _kill(self, pid: int) -> None:
        self._killed = True
        if self._victim == "group":
            os.killpg(self._pid, self._number)
        else:
            os.kill(pid, self._number)

    def _answer(self, kill_at: int | None) -> None:
        """Lets the next call be carried out, kills instead, or has it find no space."""
        notification = bytearray(_NOTIFICATION.size)
        with _of_the_living():
            fcntl.ioctl(self._listener, _RECEIVE, notification)
            number, thread, _, call, _, _, *arguments = _NOTIFICATION.unpack(notification)
            path = concerned(thread, call, arguments)
            error = 0
            if path is not None and self._killed and self._is_below(path):
                self._kill_again()
            if path is not None and self._counts(NAMES[call], path):
                self._calls += 1
                is_reached = kill_at is not None and self._calls > kill_at
                if not self._is_full:
                    self._last = f"{NAMES[call]} {os.path.relpath(path, self._folder)}"
                if is_reached and self._number == NO_SPACE:
                    self._is_full = True
                    error = -errno.ENOSPC
                elif is_reached:
                    caller = _process_of(thread)
                    self._kill(caller if self._victim == "worker" else self._pid)
                    is_killed = self._victim != "program" or caller == self._pid
                    if self._number == signal.SIGKILL and is_killed:
                        # An answer could be carried out before the kill.
                        return
            how = 0 if error else _CONTINUE
            fcntl.ioctl(self._listener, _SEND, bytearray(_RESPONSE.pack(number, 0, error, how)))

    def _kill_again(self) -> None:
        """Sends a signal once more while the program tidies up, as a script that hands it on."""
        if self._number not in (signal.SIGKILL, NO_SPACE) and not self._is_told_again:
            self._is_told_again = True
            self._kill(self._pid)

    def _is_below(self, path: str) -> bool:
        return f"{path}/".startswith(f"{self._folder}/")

    def _counts(self, name: str, path: str) -> bool:
        """Tells whether it may happen at a call."""
        if self._killed or not self._is_below(path):
            return False
        if self._number != NO_SPACE:
            return not path.endswith(_DELETED)
        is_open_again = name in OPENING and Path(path).exists()
        return name in FILLING and not is_open_again


@contextlib.contextmanager
def _of_the_living() -> Iterator[None]:
    """Passes over the calls of those that have been killed meanwhile."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        return


def _children(pid: int) -> list[int]:
    """Returns the workers of a program: its children but Python's helper that counts resources."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [
        child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def _group(pid: int) -> list[int]:
    """Returns the processes of a program, itself first."""
    every = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = []
    for process in every:
        with _of_the_living():
            if os.getpgid(process) == pid:
                found.append(process)
    return sorted(found, key=lambda process: (process != pid, process))


def _process_of(thread: int) -> int:
    for line in Path(f"/proc/{thread}/status").read_text().splitlines():
        if line.startswith("Tgid:"):
            return int(line.split()[1])
    raise ProcessLookupError(thread)
