"""Where a training step's time goes, by kind of operation.

    python -m tests.benchmarks.step_profile [--size base] [--steps 3] [--rows 20] [--examples FILE]
        [--program "ours, padded"]

Sums the time that each kind of operation kept a thread busy, as TensorFlow's profiler recorded it,
and counts the operations of the products of matrices as they are made.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.training_step import (
    PROGRAMS,
    SIZES,
    VOCAB,
    WARM_UP,
    Size,
    batches_of,
    random_batch,
)


def flops_of_step(size: Size, program: str = "ours") -> tuple[float, float]:
    """Returns the operations of a step's products as TensorFlow makes them, and as we count them.

    The step is made operation by operation, so that every product shows the shapes it really has.
    """
    from tensorflow.python.framework import op_callbacks

    from bert_clinical.nn.config import BertConfig
    from bert_clinical.nn.flops import training_flops
    from bert_clinical.nn.tensorflow import tf

    batch = random_batch(size)
    made = 0.0

    def count(kind: str, inputs: Any, attributes: Any, outputs: Any, *_: Any) -> None:
        nonlocal made
        # A lookup that is made as a product, of rows with a single one, is left out.
        if kind in ("MatMul", "BatchMatMulV2") and not np.isin(inputs[0], (0, 1)).all():
            named = dict(zip(attributes[::2], attributes[1::2], strict=True))
            transposed = named.get("transpose_a", named.get("adj_x", False))
            inner = inputs[0].shape[-2 if transposed else -1]
            made += 2.0 * inner * math.prod(outputs[0].shape)

    tf.config.run_functions_eagerly(True)
    step = PROGRAMS[program](size, itertools.repeat(batch))
    op_callbacks.add_op_callback(count)
    try:
        step()
    finally:
        op_callbacks.clear_op_callbacks()
        tf.config.run_functions_eagerly(False)
    config = BertConfig(
        VOCAB, hidden_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64, intermediate_size=4 * size.hidden, type_vocab_size=2,
    )  # fmt: skip
    predictions = batch["masked_lm_positions"].shape[-1]
    return made, float(training_flops(config, batch["input_mask"], predictions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="base", choices=SIZES)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--examples", help="of create_pretraining_data; a full batch without")
    parser.add_argument("--program", default="ours", choices=[p for p in PROGRAMS if "ours" in p])
    values = parser.parse_args()
    size, batches = SIZES[values.size], [random_batch(SIZES[values.size])]
    if values.examples:
        with tempfile.TemporaryDirectory() as folder:
            batches = batches_of(values.examples, size, values.steps + WARM_UP, folder)
    step = PROGRAMS[values.program](size, itertools.cycle(batches))
    for _ in range(WARM_UP):
        step()

    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    from bert_clinical.nn.tensorflow import tf

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(values.steps):
            step()
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    busy: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        if "CPU" in plane.name:
            for line in plane.lines:
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    _, colon, kind = name.rpartition(":")
                    if colon and "::" not in name and kind.isidentifier():
                        busy[kind] += event.duration_ps
    total = sum(busy.values())
    print(f"{size}: {total / 1e12 / values.steps:.3f} thread seconds a step")
    counted, expected = flops_of_step(size)
    print(f"products: {counted / 1e9:.1f} GFLOP a step, {expected / 1e9:.1f} as counted")
    for kind, duration in busy.most_common(values.rows):
        print(f"{kind:40} {duration / 1e12 / values.steps:8.3f} s {duration / total:7.1%}")


if __name__ == "__main__":
    main()
