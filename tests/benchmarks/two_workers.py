"""Speed of two workers against one with the whole batch, and what the exchange of gradients takes.

    python -m tests.benchmarks.two_workers [--sizes small,base] [--steps 6] [--links none,1gbit]

Each machine is one core of this one, so two cores are needed. In one run, for each size:

- one worker, half the batch: what a step of each of two would take without any exchange;
- one worker, the whole batch;
- two workers, the whole batch, on nodes of their own with a link of a given rate ("none": as fast
  as this machine's memory), which needs root and `ip`, and `tc` for a rate.

The exchange takes what a step of two workers takes longer than one of half the batch. Everything
else is the program as users run it, with --iterations_per_loop=1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_clinical.nn.config import BertConfig
from bert_clinical.pretraining.memory_plan import plan_memory
from bert_clinical.pretraining.options import TrainingOptions
from tests.clusters import nodes
from tests.clusters.nodes import Node
from tests.pretraining.training_workers import start
from tests.running import finished

_PORT = 4001

_STEPS_LEFT_OUT = 2
"""The first is compiled, the second reads its input for the first time."""


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    batch: int

    def config(self) -> BertConfig:
        return BertConfig(
            28996, hidden_size=self.hidden, num_hidden_layers=self.layers,
            num_attention_heads=self.hidden // 64, intermediate_size=4 * self.hidden,
            type_vocab_size=2,
        )  # fmt: skip


SIZES = {"small": Size(4, 256, 16), "base": Size(12, 768, 4)}


@contextlib.contextmanager
def linked(two: list[Node], rate: str) -> Iterator[None]:
    """Gives each node's link a rate in both directions, such as 1gbit."""
    if rate == "none":
        yield
        return
    shape = ["root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms"]
    ends = [(["tc"], node.link) for node in two]
    ends += [(node.command(["tc"]), _device(node)) for node in two]
    for tc, device in ends:
        subprocess.run([*tc, "qdisc", "add", "dev", device, *shape], check=True)
    try:
        yield
    finally:
        for tc, device in ends:
            subprocess.run([*tc, "qdisc", "del", "dev", device, "root"], check=True)


def _device(node: Node) -> str:
    """Returns the node's own end of its cable."""
    shown = subprocess.run(
        node.command(["ip", "-json", "link"]), check=True, capture_output=True, text=True
    )
    (name,) = (link["ifname"] for link in json.loads(shown.stdout) if link["ifname"] != "lo")
    return name


def seconds_per_step(
    folder: Path, workers: list[dict[str, Any]], steps: int, **flags: Any
) -> float:
    """Returns the median over the steps that a run logs."""
    running = [
        start(
            folder, num_train_steps=steps + _STEPS_LEFT_OUT, num_warmup_steps=0, log_every=1,
            iterations_per_loop=1, **flags, **worker,
        )
        for worker in workers
    ]  # fmt: skip
    for process in running:
        result = finished(process)
        if result.returncode:
            raise SystemExit(result.stderr)
    lines = (folder / "training_log.jsonl").read_text().splitlines()[_STEPS_LEFT_OUT:]
    rates = [json.loads(line)["examples_per_second"] for line in lines]
    return flags["train_batch_size"] / statistics.median(rates)


def measure(size: Size, values: argparse.Namespace, two: list[Node], folder: Path) -> None:
    config = size.config()
    path = folder / "bert_config.json"
    path.write_text(config.to_json_string())
    cores = sorted(os.sched_getaffinity(0))[:2]
    pinned = [{"before": ["taskset", "-c", str(core)]} for core in cores]
    half = seconds_per_step(
        folder / "half", pinned[:1], values.steps, train_batch_size=size.batch // 2,
        bert_config_file=path,
    )  # fmt: skip
    whole = seconds_per_step(
        folder / "whole", pinned[:1], values.steps, train_batch_size=size.batch,
        bert_config_file=path,
    )  # fmt: skip
    megabytes = 4 * plan_memory(config, TrainingOptions()).parameters / 1e6
    print(f"L{size.layers}/H{size.hidden}, gradients of {megabytes:.0f} MB")
    print(f"  one worker, batch {size.batch // 2}: {half:.2f} s a step")
    print(f"  one worker, batch {size.batch}: {whole:.2f} s a step")
    cluster = {"worker": [f"{node.address}:{_PORT}" for node in two]}
    for rate in values.links.split(","):
        workers = [
            {
                "before": node.command(pin["before"]),
                "tf_config": json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                ),
            }
            for index, (node, pin) in enumerate(zip(two, pinned, strict=True))
        ]
        with linked(two, rate):
            both = seconds_per_step(
                folder / f"two-{rate}", workers, values.steps, train_batch_size=size.batch,
                bert_config_file=path,
            )  # fmt: skip
        exchange = both - half
        print(
            f"  two workers, batch {size.batch}, link {rate}: {both:.2f} s a step, "
            f"{whole / both:.2f} x one; exchange {exchange:.2f} s, {exchange / both:.0%} of a step",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="small,base", help="comma-separated: small, base")
    parser.add_argument("--steps", type=int, default=6, help="steps that count")
    parser.add_argument("--links", default="none,1gbit", help="rates as tc takes them, or none")
    values = parser.parse_args()
    reason = nodes.why_none()
    if reason is not None:
        print(reason, file=sys.stderr)
        sys.exit(1)
    with nodes.network(2) as network, tempfile.TemporaryDirectory() as folder:
        for name in values.sizes.split(","):
            place = Path(folder) / name
            place.mkdir()
            measure(SIZES[name], values, network.nodes, place)


if __name__ == "__main__":
    main()
