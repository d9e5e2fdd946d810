"""Seconds of a training step: ours, transformers' BertForPreTraining in PyTorch, and Google's.

    python -m tests.benchmarks.training_step [--sizes small,base] [--steps 9] [--programs ours;...]
        [--batches full,synthetic=FILE,...] [--google_repository BERT --google_python PYTHON]

All train on the same batches, with dropout 0.1, clipping and AdamW, in float32: PyTorch with
predictions at gathered positions, PyTorch as its class computes it (logits everywhere), ours with
both forms of GELU (PyTorch computes the erf form, Google's code the tanh form), ours with padding
computed too, ours without oneDNN's operations, ours compiled by XLA, and Google's own graph. Each
has a process of its own; they take turns step by step, so that a busy machine is unfair to none.

`full` is a random batch without padding, of length 128. Of a file of create_pretraining_data, made
with any vocabulary of at most 28,996 entries, every step has another batch, in random order:

    python -m data_prep.sample_notes --output_file=notes.csv --num_notes=300
    python -m data_prep.format_notes --input_file=notes.csv --output_dir=text --category=all \\
        --sentence_splitter=rules
    python -m bert_clinical.create_pretraining_data --input_file='text/*.txt' \\
        --output_file=synthetic.tfrecord --vocab_file=VOCAB --do_lower_case=False

Google's graph needs a clone of its code and an interpreter that has the TensorFlow of its time:

    git clone https://github.com/google-research/bert BERT
    python3.11 -m venv TF215 && TF215/bin/pip install "tensorflow-cpu==2.15.*" "numpy<2"

and then --google_repository=BERT --google_python=TF215/bin/python.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tests.benchmarks.processor import processor
from tests.benchmarks.step_server import StepClient, Timing, serve

VOCAB, LENGTH, PREDICTIONS = 28996, 128, 20
WARM_UP = 2
"""Steps that are left out at least: tracing, compilation, first use of memory. So is the first step
of each batch: what is compiled for a number of rows, of which there are at most 64, is so once."""


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    batch: int

    def __str__(self) -> str:
        return f"L{self.layers}/H{self.hidden}/batch {self.batch}"


SIZES = {"small": Size(4, 256, 32), "base": Size(12, 768, 8), "long": Size(12, 768, 4)}
"""`long` is for examples of 512 WordPieces: what five programs keep fits 24 GB."""
Step = Callable[[], float]
Batch = dict[str, np.ndarray]


def random_batch(size: Size) -> Batch:
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


def batches_of(path: str, size: Size, steps: int, folder: str) -> list[Batch]:
    """Returns a batch of real examples for each step."""
    from bert_clinical.nn.config import BertConfig
    from bert_clinical.pretraining.batches import Batches, PretrainingData
    from bert_clinical.tfrecords.sidecars import read_sidecar

    flags = read_sidecar(path)["flags"]
    data = PretrainingData(
        [path], config=BertConfig(VOCAB), max_seq_length=flags["max_seq_length"],
        max_predictions_per_seq=flags["max_predictions_per_seq"], cache_folder=Path(folder),
    )  # fmt: skip
    with Batches(data, batch_size=size.batch, seed=1) as batches:
        stacked = batches.take(steps)
    return [{name: values[step] for name, values in stacked.items()} for step in range(steps)]


def save_batches(path: Path, batches: list[Batch]) -> None:
    """Writes batches so that `load_batches` and Google's program can read them."""
    np.savez(path, **{name: np.stack([b[name] for b in batches]) for name in batches[0]})


def load_batches(path: str) -> Iterator[Batch]:
    """Yields the batches, again from the first after the last."""
    stacked = dict(np.load(path))
    count = len(stacked["input_ids"])
    return ({n: v[step % count] for n, v in stacked.items()} for step in itertools.count())


def pytorch(size: Size, batches: Iterator[Batch], *, gathered: bool) -> Step:
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
    cross_entropy = torch.nn.functional.cross_entropy

    def step() -> float:
        tensors = {
            name: torch.from_numpy(values.astype(np.int64) if values.dtype == np.int32 else values)
            for name, values in next(batches).items()
        }
        inputs = {
            "input_ids": tensors["input_ids"],
            "attention_mask": tensors["input_mask"],
            "token_type_ids": tensors["segment_ids"],
        }
        no_label = torch.full_like(tensors["masked_lm_ids"], -100)
        ids = torch.where(tensors["masked_lm_weights"] != 0, tensors["masked_lm_ids"], no_label)
        optimizer.zero_grad(set_to_none=True)
        if gathered:
            outputs = model.bert(**inputs)
            where = tensors["masked_lm_positions"][:, :, None].expand(-1, -1, size.hidden)
            taken = torch.gather(outputs.last_hidden_state, 1, where)
            logits = model.cls.predictions(taken)
            pairs = model.cls.seq_relationship(outputs.pooler_output)
            loss = cross_entropy(logits.view(-1, VOCAB), ids.view(-1)) + cross_entropy(
                pairs, tensors["next_sentence_labels"].view(-1)
            )
        else:
            # The padding of the predictions points at [CLS], which is none.
            labels = torch.full_like(tensors["input_ids"], -100)
            labels.scatter_(1, tensors["masked_lm_positions"], ids)
            labels[:, 0] = -100
            sentence_labels = tensors["next_sentence_labels"].view(-1)
            loss = model(**inputs, labels=labels, next_sentence_label=sentence_labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def ours(
    size: Size,
    batches: Iterator[Batch],
    *,
    jit_compile: bool = False,
    gelu: str = "erf",
    onednn: bool = True,
    skip_padding: bool = True,
) -> Step:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    from bert_clinical import optimization
    from bert_clinical.modeling import create_variables
    from bert_clinical.nn.config import BertConfig
    from bert_clinical.nn.packing import EXACT
    from bert_clinical.nn.precision import LossScale
    from bert_clinical.nn.tensorflow import tf
    from bert_clinical.pretraining.model import PretrainingModel
    from bert_clinical.pretraining.shapes import choose_shapes
    from bert_clinical.pretraining.step import TrainingStep

    config = BertConfig(
        VOCAB, hidden_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64, intermediate_size=4 * size.hidden, type_vocab_size=2,
    )  # fmt: skip
    variables = create_variables(config, random_seed=1)
    shapes = (EXACT,) if skip_padding else ()
    if jit_compile and skip_padding:
        batches, others = itertools.tee(batches)
        masks = np.concatenate([next(others)["input_mask"] for _ in range(8)])
        shapes = choose_shapes(masks.sum(axis=1), size.batch, masks.shape[1])
    training_step = TrainingStep(
        PretrainingModel(config, gelu=gelu, compile_gelu=not jit_compile),
        optimization.Schedule(5e-5, num_train_steps=100000, num_warmup_steps=0),
        random_seed=1,
        variables=variables,
        slots=optimization.create_slots(variables),
        loss_scale=LossScale(dynamic=False),
        jit_compile=jit_compile,
        shapes=shapes,
    )
    made = 0

    def step() -> float:
        nonlocal made
        tensors = {name: tf.constant(values[None]) for name, values in next(batches).items()}
        rows, _ = training_step.run(tensors, made)
        made += 1
        return float(rows[0, 0])

    return step


PROGRAMS: dict[str, Callable[[Size, Iterator[Batch]], Step]] = {
    "ours": ours,
    "ours, padded": partial(ours, skip_padding=False),
    "ours, tanh": partial(ours, gelu="tanh"),
    "ours, tanh, padded": partial(ours, gelu="tanh", skip_padding=False),
    "ours, no oneDNN": partial(ours, onednn=False),
    "ours, XLA": partial(ours, jit_compile=True),
    "ours, XLA, padded": partial(ours, jit_compile=True, skip_padding=False),
    "PyTorch gathered": partial(pytorch, gathered=True),
    "PyTorch default": partial(pytorch, gathered=False),
}
GOOGLE = "Google's graph"


def start(program: str, size_name: str, values: argparse.Namespace, batches: Path) -> StepClient:
    """Starts a program's process, which makes its steps on the batches of that file."""
    if program != GOOGLE:
        arguments = [f"--serve={program}", f"--sizes={size_name}", f"--batches={batches}"]
        return StepClient([sys.executable, "-m", "tests.benchmarks.training_step", *arguments], ".")
    size = SIZES[size_name]
    return StepClient(
        [
            str(Path(values.google_python).absolute()),
            str(Path(__file__).with_name("google_step.py")),
            f"--repository={Path(values.google_repository).resolve()}",
            f"--batches={batches}",
            f"--vocab={VOCAB}",
            f"--layers={size.layers}",
            f"--hidden={size.hidden}",
        ],
        str(batches.parent),
    )


def measure(
    size_name: str, source: str, values: argparse.Namespace
) -> tuple[dict[str, list[Timing]], float]:
    """Returns what the steps of each program took, and the share of padding."""
    size = SIZES[size_name]
    programs = values.programs.split(";")
    if values.google_repository:
        programs.append(GOOGLE)
    with tempfile.TemporaryDirectory() as folder:
        batches = [random_batch(size)]
        if source:
            batches = batches_of(source, size, values.steps, folder)
        warm_up = max(WARM_UP, len(batches))
        path = Path(folder) / "batches.npz"
        save_batches(path, batches)
        clients = {name: start(name, size_name, values, path) for name in programs}
        timings: dict[str, list[Timing]] = {name: [] for name in programs}
        for turn in range(warm_up + values.steps):
            for name, client in clients.items():
                timing = client.step()
                if turn >= warm_up:
                    timings[name].append(timing)
        for client in clients.values():
            client.close()
    return timings, float(np.mean([batch["input_mask"] == 0 for batch in batches]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="small,base", help="comma-separated: small, base, long")
    parser.add_argument("--steps", type=int, default=9, help="steps that count")
    parser.add_argument(
        "--programs",
        default="ours;ours, tanh;ours, no oneDNN;PyTorch gathered;PyTorch default",
        help=f"separated by semicolons: {'; '.join(PROGRAMS)}",
    )
    parser.add_argument(
        "--batches", default="full", help="comma-separated: full, or NAME=FILE of examples"
    )
    parser.add_argument("--google_repository", help="a clone of google-research/bert")
    parser.add_argument("--google_python", help="an interpreter with TensorFlow 2.15")
    parser.add_argument("--serve", choices=PROGRAMS, help=argparse.SUPPRESS)
    values = parser.parse_args()
    if bool(values.google_repository) != bool(values.google_python):
        parser.error("--google_repository and --google_python belong together")
    if values.serve:
        size = SIZES[values.sizes]
        serve(PROGRAMS[values.serve](size, load_batches(values.batches)))
        return
    print(processor())
    for name in values.sizes.split(","):
        for batches in values.batches.split(","):
            label, _, source = batches.partition("=")
            timings, padding = measure(name, source, values)
            print(f"\n{SIZES[name]}, {label}, {padding:.1%} padding")
            print_table(timings)


def print_table(timings: dict[str, list[Timing]]) -> None:
    """Prints a line for each program; ratios to the first are medians of each turn's."""
    print(f"{'program':18} {'median s':>9} {'least s':>9} {'CPU s':>7} {'/ first':>8} {'CPU':>6}")
    first = next(iter(timings.values()))
    for program, own in timings.items():
        turns = list(zip(own, first, strict=True))
        columns = [
            f"{program:18}",
            f"{statistics.median(timing.seconds for timing in own):9.3f}",
            f"{min(timing.seconds for timing in own):9.3f}",
            f"{statistics.median(timing.cpu_seconds for timing in own):7.2f}",
            f"{statistics.median(a.seconds / b.seconds for a, b in turns):8.2f}",
            f"{statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in turns):6.2f}",
        ]
        print(*columns, flush=True)


if __name__ == "__main__":
    main()
