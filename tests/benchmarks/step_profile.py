"""Where a training step's time goes, by kind of operation.

    python -m tests.benchmarks.step_profile [--size base] [--steps 3] [--rows 20] [--examples FILE]
        [--program "ours, padded"]

Sums the time that each kind of operation kept a thread busy, as TensorFlow's profiler recorded it.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import tempfile
from pathlib import Path

from tests.benchmarks.training_step import PROGRAMS, SIZES, WARM_UP, batches_of, random_batch


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
    for kind, duration in busy.most_common(values.rows):
        print(f"{kind:40} {duration / 1e12 / values.steps:8.3f} s {duration / total:7.1%}")


if __name__ == "__main__":
    main()
