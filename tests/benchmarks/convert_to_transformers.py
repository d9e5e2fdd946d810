"""How long a BERT-base takes to convert, and how much memory beyond TensorFlow's own.

    python -m tests.benchmarks.convert_to_transformers
    python -m tests.benchmarks.convert_to_transformers --with_slots --layers=4

Each conversion runs in a process of its own that imports TensorFlow first; time and peak memory are
counted from there to its end. Memory is given as a multiple of the converted tensors' size; the
check in PyTorch runs in a further process, whose peak is given beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import bert_variable_shapes
from bert_clinical.weights import checkpoint

_CHILD = "--child"


def make_checkpoint(folder: Path, config: BertConfig, *, with_slots: bool) -> int:
    """Writes random weights, the config and a vocabulary; returns the weights' bytes."""
    rng = np.random.default_rng(0)
    shapes = bert_variable_shapes(config)
    tensors = {
        name: (rng.standard_normal(shape, np.float32) * 0.02) for name, shape in shapes.items()
    }
    size = sum(value.nbytes for value in tensors.values())
    if with_slots:
        slots = {
            f"{name}/{slot}": value
            for name, value in tensors.items()
            for slot in ("adam_m", "adam_v")
        }
        tensors |= slots
    checkpoint.write_checkpoint(folder / "model.ckpt-1", tensors)
    (folder / "bert_config.json").write_text(config.to_json_string())
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [f"Word{number}" for number in range(config.vocab_size - len(tokens))]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return size


def memory(kind: str) -> int:
    """Returns this process's present (VmRSS) or highest (VmHWM) memory in bytes.

    `getrusage` would count what the parent held when it started this process.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) * 1024


def child(arguments: list[str]) -> None:
    """Converts in this process and prints seconds and bytes beyond TensorFlow's import."""
    from bert_clinical.convert_to_transformers import define_flags, main
    from bert_clinical.nn import tensorflow as quiet_tensorflow  # noqa: F401
    from data_prep.common import program

    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    status = program.run_to_exit_status("", define_flags, main, arguments)
    print(
        json.dumps(
            {
                "status": status,
                "wall": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
                "bytes": memory("VmHWM") - before,
                "pytorch_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            }
        )
    )


def measure(folder: Path, size: int, label: str, *flags: str) -> None:
    """Runs one conversion and prints a line about it."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        command = [
            sys.executable, "-m", "tests.benchmarks.convert_to_transformers", _CHILD,
            f"--init_checkpoint={folder}", f"--bert_config_file={folder / 'bert_config.json'}",
            f"--vocab_file={folder / 'vocab.txt'}", "--do_lower_case=False",
            f"--output_dir={output}/out", *flags,
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    if found["status"]:
        raise SystemExit(result.stderr)
    print(
        f"{label:34} {found['wall']:6.2f} s wall {found['cpu']:6.2f} s CPU  memory "
        f"{found['bytes'] / size:4.2f} × the tensors ({found['bytes'] / 1e6:,.0f} MB)"
        + (
            f", PyTorch's process {found['pytorch_bytes'] / 1e6:,.0f} MB"
            if "--verify" in flags
            else ""
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--with_slots", action="store_true", help="Adam's slots in the checkpoint")
    options = parser.parse_args()
    config = BertConfig(vocab_size=28996, num_hidden_layers=options.layers, type_vocab_size=2)
    with tempfile.TemporaryDirectory() as folder:
        size = make_checkpoint(Path(folder), config, with_slots=options.with_slots)
        print(f"{options.layers} layers, {size / 1e6:,.0f} MB of weights")
        for label, flags in (
            ("convert", ["--noverify"]),
            ("convert, float16", ["--noverify", "--dtype=float16"]),
            ("convert, shards of 100 MB", ["--noverify", "--max_shard_size=100MB"]),
            ("convert and verify in PyTorch", ["--verify"]),
        ):
            measure(Path(folder), size, label, *flags)


if __name__ == "__main__":
    if _CHILD in sys.argv[1:2]:
        child(sys.argv[2:])
    else:
        main()
