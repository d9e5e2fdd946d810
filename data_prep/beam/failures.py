"""What can be said of a job that failed, when what the engine says of it could quote a note.

An exception of a step may hold anything, and engines hand it on among their own. But what goes
wrong with an engine itself is known by its words: such a kind is told in words of ours, and of the
engine's message no more than numbers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SAME_COMMAND = "then run the same command again"


class _Kind(NamedTuple):
    """A kind of failure: what it is known by and what is said; groups of the pattern are digits."""

    pattern: str
    line: str


# The first that is found is told: causes stand before what follows from them.
_KINDS = (
    _Kind(
        r"Insufficient number of network buffers: required (\d+), but only (\d+) available",
        "Flink has too few network buffers: {0} required, {1} available; give each task manager "
        "64 MB a slot (taskmanager.memory.network.min and .max), or use a lower --parallelism",
    ),
    _Kind(
        r"exceeds the maximum size of a sort buffer \(current maximum: (\d+) bytes",
        "what Flink sorts as one record is larger than its sort buffers of {0} bytes; use a higher "
        "--num_shards, or give task managers more managed memory (taskmanager.memory.managed.size)",
    ),
    _Kind(
        r"No space left on device|Disk quota exceeded",
        "a disk of the cluster is full; free space in the engine's temporary folders on its nodes, "
        + _SAME_COMMAND,
    ),
    _Kind(
        r"OutOfMemoryError|GC overhead limit exceeded",
        "a process of the engine ran out of memory; give task managers or executors more, "
        + _SAME_COMMAND,
    ),
    _Kind(
        r"[Ee]xit(?:ed with|s with)? (?:code|status)(?: is|:)? 137\b|OOMKilled|"
        r"Container killed by YARN for exceeding",
        "a process of the cluster was killed, as happens when memory runs out; give it more, "
        + _SAME_COMMAND,
    ),
    _Kind(
        r"Cannot run program \"docker\"|docker: (?:command )?not found|"
        r"Cannot connect to the Docker daemon",
        "the engine's nodes have no Docker to start workers with; run bert-clinical-worker-pool on "
        "each and give --environment_type=EXTERNAL --environment_config=localhost:50000",
    ),
    _Kind(
        r"NoResourceAvailableException|Could not acquire the minimum required resources|"
        r"Slot request bulk is not fulfillable",
        "Flink has too few slots that are free; use a lower --parallelism, add task managers, or "
        "wait for other jobs to end",
    ),
    _Kind(
        r"No client connected within timeout|Timed out while waiting for.*harness",
        "no worker connected to the engine; see that bert-clinical-worker-pool runs on each node, "
        "at the port that --environment_config names, and what it has logged",
    ),
    _Kind(
        r"The heartbeat of TaskManager|TaskManager with id \S+ is no longer reachable|"
        r"unexpectedly closed by remote task manager|RemoteTransportException|"
        r"ExecutorLostFailure|Remote RPC client disassociated",
        "the engine lost a task manager or an executor, with its node or for want of memory; see "
        "its log, " + _SAME_COMMAND + "; a restart strategy of the cluster "
        "(restart-strategy.type: fixed-delay) goes on by itself",
    ),
    _Kind(
        r"SDK Harness|Channel closed|Client closed before|Keepalive failed|"
        r"CANCELLED: |call already (?:cancelled|half-closed)|"
        r"Multiplexer hanging up",
        "a worker ended while it worked, as happens when memory runs out; see what its worker pool "
        "has logged, " + _SAME_COMMAND + "; a restart strategy of the cluster "
        "(restart-strategy.type: fixed-delay) goes on by itself",
    ),
    _Kind(
        r"InvalidClassException|serialVersionUID|NoSuchMethodError|NoClassDefFoundError|"
        r"IllegalAccessError|ClassNotFoundException",
        "the job server and the engine are of different versions; take the job server whose name "
        "has the engine's version, and keep Beam's jars off the engine's own class path",
    ),
    _Kind(
        r"JobSubmissionException|Could not upload job files|Master removed our application|"
        r"All masters are unresponsive",
        "the job server could not hand the job to the engine; see that the engine runs at the "
        "address that the job server was given, and that both are of one version",
    ),
    # Last: it may be what follows from any of the others.
    _Kind(
        r"Connection refused|failed to connect to all addresses",
        "a node of the engine refused a connection, as where no worker pool runs; see that "
        "bert-clinical-worker-pool runs on each node, at the port that --environment_config names",
    ),
)  # fmt: skip


def known_kind(message: str) -> str | None:
    """Returns what can be said of an engine's message, None if it is of no known kind."""
    for kind in _KINDS:
        found = re.search(kind.pattern, message)
        if found is not None:
            return kind.line.format(*(f"{int(group):,}" for group in found.groups() if group))
    return None


def withheld(what: str, where_to_look: str) -> str:
    """Returns what is said of a failure of no known kind.

    Args:
      what: the runner, the job and the kind of exception.
      where_to_look: for what is not told.
    """
    return f"{what}; its message is withheld, as it could quote a note; look {where_to_look}"


def where_engine_logs(runner: str, endpoint: str | None) -> str:
    """Returns where a runner's own log is, to follow "look"."""
    places = {
        "flink": "into the logs of Flink's task managers and job manager (log/ of each, or its "
        "page, port 8081), and of the worker pools",
        "spark": "into the logs of Spark's executors (work/ of each worker, or the master's page, "
        "port 8080), of the job server, and of the worker pools",
        "dataflow": "into the job's log on Dataflow's page",
        "direct": "whether memory or disk has run out; this runner keeps no log",
    }
    name = runner.lower().removesuffix("runner")
    if name in places:
        return places[name]
    at = f" at {endpoint}" if endpoint else ""
    return f"into the log of the job server{at}, of the engine's nodes, and of the worker pools"
