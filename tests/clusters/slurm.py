"""A SLURM cluster on this machine: Debian's slurmctld, munge, and a slurmd on each of its nodes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.clusters import nodes
from tests.clusters.nodes import Network, Node
from tests.clusters.processes import Processes
from tests.running import HANG_SECONDS

_COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")

# Two partitions of the same nodes: jobs of `high` preempt those of `low`, which get the signal that
# they asked for and a minute to end.
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}({address})
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=3600
{nodes}
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 Default=YES MaxTime=60
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=60
"""


class _Here(Node):
    """This machine, which the nodes' bridge belongs to."""

    def command(self, argv: Sequence[str]) -> list[str]:
        return list(argv)


class _WithCgroups(Node):
    """A node whose programs find /sys/fs/cgroup, which `ip netns exec` hides."""

    def command(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}", *argv]


def why_none() -> str | None:
    """Returns why SLURM cannot be had, None if it can."""
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        return f"no command {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)"
    return None


class Slurm:
    """What a user of the cluster does, and what befalls its nodes."""

    def __init__(self, folder: Path, network: Network, processes: Processes) -> None:
        self.nodes = network.nodes
        self._processes = processes
        self._environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: object, **variables: object) -> str:
        """Runs a command of SLURM's, or a script that calls them; returns what it said."""
        result = subprocess.run(
            [str(part) for part in command],
            env={**self._environment, **{name: str(value) for name, value in variables.items()}},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout

    def submit(self, *command: object, **variables: object) -> str:
        """Submits a job; returns its number."""
        return self.run(*command, **variables).split()[-1]

    def facts(self, job: str) -> dict[str, str]:
        """Returns what SLURM knows of a job, such as JobState and Restarts."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, *states: str) -> dict[str, str]:
        """Returns a job's facts once it is in one of the states."""
        limit = time.monotonic() + HANG_SECONDS
        while (facts := self.facts(job))["JobState"] not in states:
            assert time.monotonic() < limit, f"job {job} hangs: {facts}"
            time.sleep(0.2)
        return facts

    def restart(self, number: int) -> None:
        """Starts again a node that was killed."""
        self._processes.restart(self.nodes[number])

    def start_now(self, job: str) -> None:
        """Has a job that was queued again not wait until the cluster would look at it."""
        self.wait(job, "PENDING", "RUNNING")
        if self.facts(job)["JobState"] == "PENDING":
            self.run("scontrol", "update", f"JobId={job}", "StartTime=now")


@contextlib.contextmanager
def cluster(folder: Path, count: int = 2) -> Iterator[Slurm]:
    """Makes a cluster of nodes that each have a processor; its files come into `folder`."""
    with nodes.network(count) as network, Processes(folder / "logs") as processes:
        names = [f"node{number + 1}" for number in range(count)]
        hosts = "".join(
            f"{node.address} {name}\n" for node, name in zip(network.nodes, names, strict=True)
        )
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        configuration = _CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            address=network.address,
            nodes="\n".join(
                f"NodeName={name} NodeAddr={node.address} NodeHostname={name} CPUs=1 "
                "RealMemory=4000 State=UNKNOWN"
                for node, name in zip(network.nodes, names, strict=True)
            ),
        )
        (folder / "slurm.conf").write_text(configuration)
        here = _Here("", network.address, "")
        munged = [
            "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        ]  # fmt: skip
        slurm_conf = {"SLURM_CONF": str(folder / "slurm.conf")}
        processes.start("munged", here, munged)
        processes.wait("munged", (folder / "munge.socket").exists)
        processes.start("slurmctld", here, ["slurmctld", "-D"], **slurm_conf)
        for node, name in zip(network.nodes, names, strict=True):
            # Jobs find the nodes by name.
            named = f"mount --bind {folder}/hosts /etc/hosts && exec slurmd -D -N {name}"
            processes.start(
                name, _WithCgroups(*node), ["unshare", "--mount", "sh", "-c", named], **slurm_conf
            )
        slurm = Slurm(folder, network, processes)

        def all_idle() -> bool:
            states = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format=%T"],
                env={**os.environ, **slurm_conf}, capture_output=True, text=True,
            )  # fmt: skip
            return states.stdout.split().count("idle") == 2 * count

        processes.wait("SLURM", all_idle)
        yield slurm
