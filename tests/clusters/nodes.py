"""Several nodes on one machine: network namespaces on a bridge, each with a localhost of its own.

What is started on a node sees the files of this machine, as on a cluster with a shared folder, but
reaches other nodes only by their addresses. Needs root on Linux, and the command `ip`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.running import HANG_SECONDS


def why_none() -> str | None:
    """Returns why nodes cannot be had here, None if they can."""
    if shutil.which("ip") is None:
        return "no command ip (Debian: iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"no network namespaces: {' '.join(made.stderr.split())}"
    _ip("netns", "del", name)
    return None


class Node(NamedTuple):
    """A network namespace.

    Attributes:
      name: of the namespace.
      address: that the other nodes and this machine reach.
      link: the machine's end of the cable.
    """

    name: str
    address: str
    link: str

    def command(self, argv: Sequence[str]) -> list[str]:
        """Returns the command line that runs `argv` on the node."""
        return ["ip", "netns", "exec", self.name, *argv]

    def processes(self) -> list[int]:
        """Returns what runs on the node."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def cpu_seconds(self) -> float:
        """Returns what its processes have used, with those of their children that have ended."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = Path(f"/proc/{pid}/stat").read_text()
                ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """Ends everything on the node at once, as a power cut does, and waits for it."""
        limit = time.monotonic() + HANG_SECONDS
        while running := [pid for pid in self.processes() if not _is_zombie(pid)]:
            assert time.monotonic() < limit, f"{self.name}: {running} do not die"
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def disconnect(self) -> None:
        """Pulls the cable: nothing reaches the node and it reaches nothing; its processes go on."""
        _ip("link", "set", self.link, "down")

    def reconnect(self) -> None:
        """Plugs the cable in again."""
        _ip("link", "set", self.link, "up")


class Network(NamedTuple):
    """Nodes on a bridge, whose own address is this machine's to them."""

    address: str
    nodes: list[Node]


@contextlib.contextmanager
def network(count: int) -> Iterator[Network]:
    """Makes `count` nodes; afterwards they are gone, with all that ran on them."""
    # The kernel takes names of 15 characters; the process id keeps two runs apart.
    mark = f"{os.getpid():x}"
    bridge = f"bcb{mark}"
    prefix = _free_prefix()
    nodes: list[Node] = []
    with contextlib.ExitStack() as undo:
        _ip("link", "add", bridge, "type", "bridge")
        undo.callback(_ip, "link", "del", bridge)
        _ip("address", "add", f"{prefix}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number in range(count):
            node = Node(f"bcn{mark}-{number}", f"{prefix}.{number + 2}", f"bch{mark}-{number}")
            _ip("netns", "add", node.name)
            undo.callback(_ip, "netns", "del", node.name)
            undo.callback(node.kill)
            inner = f"bci{mark}-{number}"
            _ip("link", "add", node.link, "type", "veth", "peer", "name", inner)
            # With the node alone it would go some time later, and be in the next network's way.
            undo.callback(_ip, "link", "del", node.link)
            _ip("link", "set", node.link, "master", bridge, "up")
            _ip("link", "set", inner, "netns", node.name)
            _ip("-n", node.name, "address", "add", f"{node.address}/24", "dev", inner)
            _ip("-n", node.name, "link", "set", inner, "up")
            _ip("-n", node.name, "link", "set", "lo", "up")
            nodes.append(node)
        yield Network(f"{prefix}.1", nodes)


def _free_prefix() -> str:
    taken = _ip("-4", "address", "show")
    return next(
        prefix for number in range(256) if (prefix := f"10.213.{number}") + "." not in taken
    )


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _ip(*argv: str) -> str:
    result = subprocess.run(["ip", *argv], capture_output=True, text=True)
    assert result.returncode == 0, f"ip {' '.join(argv)}: {result.stderr}"
    return result.stdout
