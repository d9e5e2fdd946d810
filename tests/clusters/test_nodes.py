"""Nodes on one machine: each has its own localhost, and a cable that can be pulled."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.clusters import nodes

_WHY_NONE = nodes.why_none()

pytestmark = pytest.mark.skipif(_WHY_NONE is not None, reason=str(_WHY_NONE))

SERVE = """
import socket, sys
server = socket.create_server((sys.argv[1], 5000))
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""


def serve(node: nodes.Node, address: str) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        node.command([sys.executable, "-c", SERVE, address]), stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return server


def reaches(address: str) -> bool:
    try:
        socket.create_connection((address, 5000), timeout=1).close()
    except OSError:
        return False
    return True


def test_nodes_are_apart_until_asked_by_address_and_die_whole() -> None:
    with nodes.network(2) as network:
        first, second = network.nodes
        # The same port of two localhosts.
        servers = [serve(node, "localhost") for node in network.nodes]
        servers.append(serve(first, first.address))
        assert reaches(first.address)
        assert not reaches(second.address)
        first.disconnect()
        assert not reaches(first.address)
        first.reconnect()
        assert reaches(first.address)
        first.kill()
        assert [server.wait() for server in (servers[0], servers[2])] == [-9, -9]
        assert servers[1].poll() is None
        assert second.processes() == [servers[1].pid]
    assert servers[1].wait() == -9
    assert first.name not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
