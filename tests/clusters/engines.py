"""Brings up Flink, Spark and Prism: the head of a cluster on the first node, workers on the rest.

Every worker node runs a pool of this project's. What the engines say stands in their logs, one
for each process, in the folder that they are given.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.clusters import installation
from tests.clusters.nodes import Network, Node
from tests.clusters.processes import Processes

POOL_PORT = 50000
_JOB_PORT, _ARTIFACT_PORT, _EXPANSION_PORT = 8099, 8098, 8097
_REST_PORT, _SPARK_PORT, _SPARK_PAGE_PORT = 8081, 7077, 8080

# What Flink's and Spark's start scripts open of Java 17 for them.
_OPEN_PACKAGES = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio",
    "java.util", "java.util.concurrent", "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "java.text", "java.time", "sun.nio.ch", "sun.nio.cs", "sun.net.util", "sun.security.action",
    "sun.util.calendar",
)  # fmt: skip


class Cluster:
    """An engine that runs.

    Attributes:
      flags: for a program that is to use it.
      workers: its worker nodes.
      processes: of the engine.
      running_jobs: says which jobs have not ended, by the engine's own page.
      ended_jobs: says what seconds the others have taken, in order, by Flink's own page.
    """

    def __init__(
        self,
        flags: Mapping[str, str],
        workers: Sequence[Node],
        processes: Processes,
        running_jobs: Callable[[], list[str]] = list,
        ended_jobs: Callable[[], list[float]] = list,
    ) -> None:
        self.flags = dict(flags)
        self.workers = list(workers)
        self.processes = processes
        self.running_jobs = running_jobs
        self.ended_jobs = ended_jobs

    def flags_with(self, *options: str) -> dict[str, str]:
        """Returns the flags, with more options of the pipeline."""
        return {
            **self.flags,
            "pipeline_options": " ".join([self.flags["pipeline_options"], *options]),
        }


@contextlib.contextmanager
def flink(
    network: Network,
    folder: Path,
    *,
    slots: int = 2,
    restarts: bool = True,
    network_memory: str = "128m",
) -> Iterator[Cluster]:
    """Runs a job manager with a job server, and a task manager with a pool on every other node.

    Args:
      network: its nodes.
      folder: for logs and what Flink keeps on disk; all nodes reach it.
      slots: of a task manager.
      restarts: whether the cluster restarts jobs whose workers were lost.
      network_memory: of a task manager, in Flink's notation.
    """
    jars = installation.flink()
    head, *workers = network.nodes
    with Processes(folder / "logs") as processes:
        settings: dict[str, Any] = {
            "jobmanager.rpc.address": head.address,
            "jobmanager.rpc.port": 6123,
            "rest.address": head.address,
            "rest.bind-address": head.address,
            "rest.port": _REST_PORT,
            "io.tmp.dirs": folder / "flink",
            "blob.storage.directory": folder / "flink",
            # A lost node is noticed in seconds instead of a minute.
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 8000,
            "taskmanager.numberOfTaskSlots": slots,
            # A task manager that is started without Flink's scripts takes no size for granted.
            "taskmanager.cpu.cores": slots,
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "192m",
            "taskmanager.memory.jvm-overhead.max": "192m",
            "taskmanager.memory.task.heap.size": "512m",
            "taskmanager.memory.task.off-heap.size": "64m",
            "taskmanager.memory.network.min": network_memory,
            "taskmanager.memory.network.max": network_memory,
            "taskmanager.memory.managed.size": "256m",
            "restart-strategy.type": "fixed-delay" if restarts else "none",
            "restart-strategy.fixed-delay.attempts": 20,
            "restart-strategy.fixed-delay.delay": "2 s",
        }
        (folder / "flink").mkdir(parents=True)
        configuration = "".join(f"{name}: {value}\n" for name, value in settings.items())
        (folder / "flink-conf.yaml").write_text(configuration)
        runtime = "org.apache.flink.runtime"
        processes.start(
            "jobmanager",
            head,
            [
                *_java(jars, f"{runtime}.entrypoint.StandaloneSessionClusterEntrypoint", "512m"),
                "--configDir",
                str(folder),
            ],
        )
        for number, node in enumerate(workers, 1):
            processes.start(
                f"taskmanager-{number}",
                node,
                [
                    *_java(jars, f"{runtime}.taskexecutor.TaskManagerRunner", "704m"),
                    "--configDir",
                    str(folder),
                    "-D",
                    f"taskmanager.host={node.address}",
                ],
            )
            processes.start(f"pool-{number}", node, _pool())
        _start_job_server(
            processes,
            head,
            folder,
            [
                *_java(
                    installation.flink_job_server(),
                    f"{_RUNNERS}.flink.FlinkJobServerDriver",
                    "512m",
                ),
                f"--flink-master={head.address}:{_REST_PORT}",
            ],
        )
        rest = f"http://{head.address}:{_REST_PORT}"
        processes.wait(
            "Flink",
            lambda: len(_json(f"{rest}/taskmanagers").get("taskmanagers", ())) == len(workers),
        )
        flags = _flags(
            head,
            "FlinkRunner",
            f"--flink_master={head.address}:{_REST_PORT}",
            f"--parallelism={slots * len(workers)}",
        )
        yield Cluster(
            flags,
            workers,
            processes,
            lambda: [job["jid"] for job in _flink_jobs(rest, has_ended=False)],
            lambda: [job["duration"] / 1000 for job in _flink_jobs(rest, has_ended=True)],
        )


@contextlib.contextmanager
def spark(network: Network, folder: Path, *, cores: int = 2) -> Iterator[Cluster]:
    """Runs a master with a job server as driver, and a worker with a pool on every other node.

    Args:
      network: its nodes.
      folder: for logs and what Spark keeps on disk; all nodes reach it.
      cores: of a worker.
    """
    home = installation.spark()
    launch = [str(home / "bin/spark-class"), "org.apache.spark.deploy"]
    head, *workers = network.nodes
    with Processes(folder / "logs") as processes:
        master = f"spark://{head.address}:{_SPARK_PORT}"
        processes.start(
            "master",
            head,
            [
                launch[0],
                f"{launch[1]}.master.Master",
                "--host",
                head.address,
                "--port",
                str(_SPARK_PORT),
                "--webui-port",
                str(_SPARK_PAGE_PORT),
            ],
            SPARK_LOCAL_IP=head.address,
        )
        for number, node in enumerate(workers, 1):
            (folder / f"worker-{number}").mkdir(parents=True)
            processes.start(
                f"worker-{number}",
                node,
                [
                    launch[0],
                    f"{launch[1]}.worker.Worker",
                    "--host",
                    node.address,
                    "--cores",
                    str(cores),
                    "--memory",
                    "2g",
                    "--work-dir",
                    str(folder / f"worker-{number}"),
                    master,
                ],
                SPARK_LOCAL_IP=node.address,
            )
            processes.start(f"pool-{number}", node, _pool())
        _start_job_server(
            processes,
            head,
            folder,
            [
                *_java(
                    installation.spark_job_server(),
                    f"{_RUNNERS}.spark.SparkJobServerDriver",
                    "768m",
                    f"-Dspark.driver.host={head.address}",
                    f"-Dspark.local.dir={folder}",
                    # Spark's own Guava is too old for Beam's file systems.
                    f"-Dspark.executor.extraClassPath={_guava(installation.spark_job_server())}",
                ),
                f"--spark-master-url={master}",
            ],
            SPARK_LOCAL_IP=head.address,
        )
        page = f"http://{head.address}:{_SPARK_PAGE_PORT}/json/"
        processes.wait("Spark", lambda: _json(page).get("aliveworkers") == len(workers))
        flags = _flags(head, "SparkRunner", f"--spark_master_url={master}")
        yield Cluster(
            flags,
            workers,
            processes,
            lambda: [app["id"] for app in _json(page).get("activeapps", ())],
        )


@contextlib.contextmanager
def prism(network: Network, folder: Path) -> Iterator[Cluster]:
    """Runs Prism and a pool on one node."""
    node = network.nodes[0]
    with Processes(folder / "logs") as processes:
        processes.start(
            "prism",
            node,
            [str(installation.prism()), f"-job_port={_JOB_PORT}", "-serve_http=false"],
        )
        processes.start("pool", node, _pool())
        processes.wait("Prism", lambda: _listens(node, _JOB_PORT))
        processes.wait("the pool", lambda: _listens(node, POOL_PORT))
        # Prism takes whoever hands it a pipeline to be on its own machine.
        flags = _flags(node, "PortableRunner", f"--artifact_endpoint={node.address}:{_JOB_PORT}")
        yield Cluster(flags, [node], processes)


_RUNNERS = "org.apache.beam.runners"
_TIME_FORMAT = "dateTimeFormat=HH:mm:ss.SSS"


def _java(jars: Path, main: str, heap: str, *properties: str) -> list[str]:
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPEN_PACKAGES]
    times = [f"-Dorg.slf4j.simpleLogger.{name}" for name in ("showDateTime=true", _TIME_FORMAT)]
    return ["java", f"-Xmx{heap}", *opened, *times, *properties, "-cp", f"{jars}/*", main]


def _guava(jars: Path) -> str:
    return ":".join(str(jar) for name in ("guava-*", "failureaccess-*") for jar in jars.glob(name))


def _pool() -> list[str]:
    return [sys.executable, "-m", "data_prep.worker_pool", f"--port={POOL_PORT}"]


def _start_job_server(
    processes: Processes, head: Node, folder: Path, command: Sequence[str], **environment: str
) -> None:
    processes.start(
        "job-server",
        head,
        [
            *command,
            f"--job-host={head.address}",
            f"--job-port={_JOB_PORT}",
            f"--artifact-port={_ARTIFACT_PORT}",
            f"--expansion-port={_EXPANSION_PORT}",
            f"--artifacts-dir={folder / 'artifacts'}",
        ],
        **environment,
    )
    processes.wait("the job server", lambda: _listens(head, _JOB_PORT))


def _flags(head: Node, runner: str, *more: str) -> dict[str, str]:
    options = [
        f"--job_endpoint={head.address}:{_JOB_PORT}",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{POOL_PORT}",
        # A worker for each slot or core; the engines' default is one for all of a node.
        "--sdk_worker_parallelism=2",
        *more,
    ]
    return {"runner": runner, "pipeline_options": " ".join(options)}


def _listens(node: Node, port: int) -> bool:
    """Returns whether something on the node listens at a port."""
    found = subprocess.run(
        node.command(["cat", "/proc/net/tcp", "/proc/net/tcp6"]), capture_output=True, text=True
    )
    # Addresses stand there in hexadecimal, and 0A is a socket that listens.
    return any(
        fields[1].endswith(f":{port:04X}") and fields[3] == "0A"
        for line in found.stdout.splitlines()
        if len(fields := line.split()) > 3
    )


def _flink_jobs(rest: str, *, has_ended: bool) -> list[dict[str, Any]]:
    jobs = [
        job
        for job in _json(f"{rest}/jobs/overview").get("jobs", ())
        if (job["state"] in ("CANCELED", "FAILED", "FINISHED")) == has_ended
    ]
    return sorted(jobs, key=lambda job: job["start-time"])


def _json(url: str) -> dict[str, Any]:
    """Returns what an engine's page says, nothing until it is there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return {}
