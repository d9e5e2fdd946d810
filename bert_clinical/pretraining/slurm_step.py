"""The tasks of a SLURM job step as the workers of a `TF_CONFIG`, by what srun tells each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from data_prep.common.errors import UserError

_FIRST_PORT = 20000
_PORTS = 10000
# Jobs that follow one another may share a node: their ports lie this far apart.
_PORTS_BETWEEN_JOBS = 31

_NAME = re.compile(r"((?:[^\[\],]|\[[^\]]*\])+)(?:,|$)")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def environment_of_worker(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns what TensorFlow is to find in a task's environment; nothing if it is the only task.

    That is `TF_CONFIG`, whose workers are the step's tasks in SLURM's order, and where several
    tasks of a node see all of its GPUs, `CUDA_VISIBLE_DEVICES` with this task's share.

    Source: TensorFlow's SlurmClusterResolver, for the variables. Differs: nodes keep SLURM's order,
    names are expanded without scontrol, which images lack, and every task has a port of its own,
    so that jobs can share nodes.

    Args:
      environment: of a task that srun started.

    Raises:
      UserError: the tasks are not spread over the nodes in blocks.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return {}
    rank = int(environment["SLURM_PROCID"])
    hosts = list(hosts_of_tasks(environment))
    own = environment.get("SLURMD_NODENAME", hosts[rank])
    if own != hosts[rank]:
        raise UserError(
            f"SLURM's task {rank} runs on {own}, expected {hosts[rank]}: the tasks are not spread "
            "over the nodes in blocks; give srun --distribution=block"
        )
    first = int(environment["SLURM_JOB_ID"]) * _PORTS_BETWEEN_JOBS
    addresses = [
        f"{host}:{_FIRST_PORT + (first + task) % _PORTS}" for task, host in enumerate(hosts)
    ]
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    return {"TF_CONFIG": json.dumps(config), **_share_of_gpus(environment, hosts.count(own))}


def hosts_of_tasks(environment: Mapping[str, str]) -> Iterator[str]:
    """Yields the node of each task, by rank."""
    counts: list[int] = []
    for part in environment["SLURM_STEP_TASKS_PER_NODE"].split(","):
        tasks, _, nodes = part.rstrip(")").partition("(x")
        counts += [int(tasks)] * int(nodes or 1)
    hosts = expand_host_list(environment["SLURM_STEP_NODELIST"])
    for host, count in zip(hosts, counts, strict=True):
        yield from [host] * count


def expand_host_list(hosts: str) -> list[str]:
    """Returns the names that SLURM writes in short, such as `gpu[01-03,7]-a,login`."""
    return [name for part in _NAME.findall(hosts) for name in _expand(part)]


def _expand(name: str) -> Iterator[str]:
    """Yields the names of one with brackets."""
    before, bracket, rest = name.partition("[")
    if not bracket:
        yield name
        return
    inside, _, after = rest.partition("]")
    for first, last in _RANGE.findall(inside):
        for number in range(int(first), int(last or first) + 1):
            for end in _expand(after):
                yield f"{before}{number:0{len(first)}d}{end}"


def _share_of_gpus(environment: Mapping[str, str], tasks: int) -> dict[str, str]:
    """Returns this task's GPUs of its node's, where SLURM itself does not part them."""
    parted = {"SLURM_GPUS_PER_TASK", "SLURM_GPU_BIND", "SLURM_NTASKS_PER_GPU"} & set(environment)
    gpus = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    each = len(gpus) // tasks
    if parted or tasks == 1 or not each:
        return {}
    first = int(environment["SLURM_LOCALID"]) * each
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[first : first + each])}
