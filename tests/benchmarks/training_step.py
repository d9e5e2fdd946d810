"""Seconds of a training step: ours against transformers' BertForPreTraining in PyTorch.

    python -m tests.benchmarks.training_step [--sizes small,base] [--steps 9] [--ours jit,plain]

All train on the same random batch, with dropout 0.1, clipping and AdamW, in float32: PyTorch with
predictions at 20 gathered positions, PyTorch as its class computes it (logits everywhere), ours.
The contenders take turns step by step, so that a busy machine is unfair to none.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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


def ours(size: Size, batch: dict[str, np.ndarray], *, jit_compile: bool) -> Step:
    from bert_clinical import optimization
    from bert_clinical.bert_config import BertConfig
    from bert_clinical.modeling import create_variables
    from bert_clinical.precision import LossScale
    from bert_clinical.pretraining_step import PretrainingModel, StepSettings, TrainingStep
    from bert_clinical.quiet_tensorflow import tf

    config = BertConfig(
        VOCAB, hidden_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64, intermediate_size=4 * size.hidden, type_vocab_size=2,
    )  # fmt: skip
    variables = create_variables(config, random_seed=1)
    training_step = TrainingStep(
        PretrainingModel(config, gelu="erf"),
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
        rows = training_step.run(tensors, made).numpy()
        made += 1
        return float(rows[0, 0])

    return step


def contenders(size: Size, which: list[str]) -> dict[str, Step]:
    batch = random_batch(size)
    made = {
        "PyTorch gathered": lambda: pytorch(size, batch, gathered=True),
        "PyTorch default": lambda: pytorch(size, batch, gathered=False),
        "ours": lambda: ours(size, batch, jit_compile=False),
        "ours --jit_compile": lambda: ours(size, batch, jit_compile=True),
    }
    return {name: make() for name, make in made.items() if name in which}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="small,base")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument(
        "--which", default="PyTorch gathered,PyTorch default,ours,ours --jit_compile"
    )
    values = parser.parse_args()
    print(f"{'size':20} {'program':20} {'median s':>9} {'least s':>9} {'x gathered':>11}")
    for name in values.sizes.split(","):
        steps = contenders(SIZES[name], values.which.split(","))
        times: dict[str, list[float]] = {program: [] for program in steps}
        for turn in range(values.steps + 2):
            for program, step in steps.items():
                begin = time.perf_counter()
                step()
                if turn >= 2:
                    times[program].append(time.perf_counter() - begin)
        reference = statistics.median(next(iter(times.values())))
        for program, seconds in times.items():
            median = statistics.median(seconds)
            print(
                f"{SIZES[name]!s:20} {program:20} {median:9.3f} {min(seconds):9.3f} "
                f"{reference / median:11.2f}"
            )


if __name__ == "__main__":
    main()
