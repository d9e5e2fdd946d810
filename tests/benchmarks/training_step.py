"""Seconds of a training step: ours, transformers' BertForPreTraining in PyTorch, and Google's.

    python -m tests.benchmarks.training_step [--sizes small,base] [--steps 9] [--programs ours,...]
        [--google_repository BERT --google_python PYTHON]

All train on the same random batch, with dropout 0.1, clipping and AdamW, in float32: PyTorch with
predictions at 20 gathered positions, PyTorch as its class computes it (logits everywhere), ours
with both forms of GELU (PyTorch computes the erf form, Google's code the tanh form), ours without
oneDNN's operations, ours compiled by XLA, and Google's own graph. Each has a process of its own;
they take turns step by step, so that a busy machine is unfair to none.

Google's graph needs a clone of its code and an interpreter that has the TensorFlow of its time:

    git clone https://github.com/google-research/bert BERT
    python3.11 -m venv TF215 && TF215/bin/pip install "tensorflow-cpu==2.15.*" "numpy<2"

and then --google_repository=BERT --google_python=TF215/bin/python.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tests.benchmarks.processor import processor
from tests.benchmarks.step_server import StepClient, Timing, serve

VOCAB, LENGTH, PREDICTIONS = 28996, 128, 20


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    batch: int

    def __str__(self) -> str:
        return f"L{self.layers}/H{self.hidden}/batch {self.batch}"


SIZES = {"small": Size(4, 256, 32), "base": Size(12, 768, 8)}
Step = Callable[[], float]


def random_batch(size: Size) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    rows = [draw.choice(LENGTH, PREDICTIONS, replace=False) for _ in range(size.batch)]
    return {
        "input_ids": draw.integers(0, VOCAB, [size.batch, LENGTH]).astype(np.int32),
        "input_mask": np.ones([size.batch, LENGTH], np.int32),
        "segment_ids": draw.integers(0, 2, [size.batch, LENGTH]).astype(np.int32),
        "masked_lm_positions": np.sort(rows, axis=1).astype(np.int32),
        "masked_lm_ids": draw.integers(0, VOCAB, [size.batch, PREDICTIONS]).astype(np.int32),
        "masked_lm_weights": np.ones([size.batch, PREDICTIONS], np.float32),
        "next_sentence_labels": draw.integers(0, 2, [size.batch, 1]).astype(np.int32),
    }


def pytorch(size: Size, batch: dict[str, np.ndarray], *, gathered: bool) -> Step:
    import torch
    import transformers

    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64, intermediate_size=4 * size.hidden,
    )  # fmt: skip
    model = transformers.BertForPreTraining(config).train()
    no_decay = [p for n, p in model.named_parameters() if "LayerNorm" in n or "bias" in n]
    decay = [p for n, p in model.named_parameters() if "LayerNorm" not in n and "bias" not in n]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}],
        lr=5e-5, eps=1e-6, fused=True,
    )  # fmt: skip
    tensors = {
        name: torch.from_numpy(values.astype(np.int64) if values.dtype == np.int32 else values)
        for name, values in batch.items()
    }
    inputs = {
        "input_ids": tensors["input_ids"],
        "attention_mask": tensors["input_mask"],
        "token_type_ids": tensors["segment_ids"],
    }
    labels = torch.full([size.batch, LENGTH], -100)
    labels.scatter_(1, tensors["masked_lm_positions"], tensors["masked_lm_ids"])
    cross_entropy = torch.nn.functional.cross_entropy

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        if gathered:
            outputs = model.bert(**inputs)
            where = tensors["masked_lm_positions"][:, :, None].expand(-1, -1, size.hidden)
            taken = torch.gather(outputs.last_hidden_state, 1, where)
            logits = model.cls.predictions(taken)
            pairs = model.cls.seq_relationship(outputs.pooler_output)
            loss = cross_entropy(
                logits.view(-1, VOCAB), tensors["masked_lm_ids"].view(-1)
            ) + cross_entropy(pairs, tensors["next_sentence_labels"].view(-1))
        else:
            sentence_labels = tensors["next_sentence_labels"].view(-1)
            loss = model(**inputs, labels=labels, next_sentence_label=sentence_labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def ours(
    size: Size,
    batch: dict[str, np.ndarray],
    *,
    jit_compile: bool = False,
    gelu: str = "erf",
    onednn: bool = True,
) -> Step:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    from bert_clinical import optimization
    from bert_clinical.modeling import create_variables
    from bert_clinical.nn.config import BertConfig
    from bert_clinical.nn.precision import LossScale
    from bert_clinical.nn.tensorflow import tf
    from bert_clinical.pretraining.step import PretrainingModel, StepSettings, TrainingStep

    config = BertConfig(
        VOCAB, hidden_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64, intermediate_size=4 * size.hidden, type_vocab_size=2,
    )  # fmt: skip
    variables = create_variables(config, random_seed=1)
    training_step = TrainingStep(
        PretrainingModel(config, gelu=gelu),
        StepSettings(learning_rate=5e-5, num_train_steps=100000, num_warmup_steps=0, random_seed=1),
        variables=variables,
        slots=optimization.create_slots(variables),
        loss_scale=LossScale(dynamic=False),
        jit_compile=jit_compile,
    )
    tensors = {name: tf.constant(values[None]) for name, values in batch.items()}
    made = 0

    def step() -> float:
        nonlocal made
        rows, _ = training_step.run(tensors, made)
        made += 1
        return float(rows[0, 0])

    return step


PROGRAMS: dict[str, Callable[[Size, dict[str, np.ndarray]], Step]] = {
    "ours": ours,
    "ours, tanh": partial(ours, gelu="tanh"),
    "ours, no oneDNN": partial(ours, onednn=False),
    "ours, XLA": partial(ours, jit_compile=True),
    "PyTorch gathered": partial(pytorch, gathered=True),
    "PyTorch default": partial(pytorch, gathered=False),
}
GOOGLE = "Google's graph"


def start(program: str, size_name: str, values: argparse.Namespace, folder: str) -> StepClient:
    """Starts a program's process."""
    if program != GOOGLE:
        arguments = [f"--serve={program}", f"--sizes={size_name}"]
        return StepClient([sys.executable, "-m", "tests.benchmarks.training_step", *arguments], ".")
    size = SIZES[size_name]
    batch = Path(folder) / f"{size_name}.npz"
    np.savez(batch, **random_batch(size))
    return StepClient(
        [
            str(Path(values.google_python).absolute()),
            str(Path(__file__).with_name("google_step.py")),
            f"--repository={Path(values.google_repository).resolve()}",
            f"--batch={batch}",
            f"--vocab={VOCAB}",
            f"--layers={size.layers}",
            f"--hidden={size.hidden}",
        ],
        folder,
    )


def measure(size_name: str, values: argparse.Namespace) -> dict[str, list[Timing]]:
    """Returns what the steps of each program took, the first two left out."""
    programs = values.programs.split(";")
    if values.google_repository:
        programs.append(GOOGLE)
    with tempfile.TemporaryDirectory() as folder:
        clients = {name: start(name, size_name, values, folder) for name in programs}
        timings: dict[str, list[Timing]] = {name: [] for name in programs}
        for turn in range(values.steps + 2):
            for name, client in clients.items():
                timing = client.step()
                if turn >= 2:
                    timings[name].append(timing)
        for client in clients.values():
            client.close()
    return timings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="small,base", help="comma-separated: small, base")
    parser.add_argument("--steps", type=int, default=9, help="steps that count")
    parser.add_argument(
        "--programs",
        default="ours;ours, tanh;ours, no oneDNN;PyTorch gathered;PyTorch default",
        help=f"separated by semicolons: {'; '.join(PROGRAMS)}",
    )
    parser.add_argument("--google_repository", help="a clone of google-research/bert")
    parser.add_argument("--google_python", help="an interpreter with TensorFlow 2.15")
    parser.add_argument("--serve", choices=PROGRAMS, help=argparse.SUPPRESS)
    values = parser.parse_args()
    if bool(values.google_repository) != bool(values.google_python):
        parser.error("--google_repository and --google_python belong together")
    if values.serve:
        size = SIZES[values.sizes]
        serve(PROGRAMS[values.serve](size, random_batch(size)))
        return
    print(processor())
    print(f"{'size':20} {'program':18} {'median s':>9} {'least s':>9} {'CPU s':>7} {'/ first':>8}")
    for name in values.sizes.split(","):
        first = 0.0
        for program, timings in measure(name, values).items():
            median = statistics.median(timing.seconds for timing in timings)
            least = min(timing.seconds for timing in timings)
            cpu = statistics.median(timing.cpu_seconds for timing in timings)
            first = first or median
            print(
                f"{SIZES[name]!s:20} {program:18} {median:9.3f} {least:9.3f} {cpu:7.2f} "
                f"{median / first:8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
