"""Examples a second that the input pipeline delivers on one core, at length 128.

    python -m tests.benchmarks.input_pipeline [--examples 200000]

Beside it: TensorFlow's own readers on the same file, parsing example by example and by batches.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.pretraining.batches import Batches, PretrainingData
from bert_clinical.tfrecords.schema import pretraining_features
from tests.golden_data import golden

BATCH = 32


def cpu_rate(count: int, work: object) -> tuple[float, float]:
    """Returns examples by second of processor time and by second of the clock."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()  # type: ignore[operator]
    return count / (time.process_time() - cpu), count / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200_000)
    values = parser.parse_args()
    features = pretraining_features(128, 20)
    spec = {
        name: tf.io.FixedLenFeature([length], tf.as_dtype(dtype))
        for name, (dtype, length) in features.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.tfrecord"
        source = golden("cased_128.tfrecord").read_bytes()
        copies = -(-values.examples // 1440)
        with path.open("wb") as stream:
            for _ in range(copies):
                stream.write(source)
        steps = values.examples // BATCH
        count = steps * BATCH
        data = PretrainingData(
            [path], config=BertConfig(1000, type_vocab_size=2), max_seq_length=128,
            max_predictions_per_seq=20, cache_folder=Path(folder),
        )  # fmt: skip

        def ours() -> None:
            with Batches(data, batch_size=BATCH, seed=1) as batches:
                for _ in range(steps // 50):
                    batches.take(50)

        def tensorflow(by_batches: bool) -> None:
            records = tf.data.TFRecordDataset(str(path)).shuffle(100)
            if by_batches:
                parsed = records.batch(BATCH, True).map(lambda r: tf.io.parse_example(r, spec))
            else:
                parsed = records.map(lambda r: tf.io.parse_single_example(r, spec)).batch(BATCH)
            for batch in parsed.take(steps):
                np.asarray(batch["input_ids"])

        print(f"{'pipeline':32} {'examples/s of a core':>22} {'examples/s':>12}")
        for name, work in {
            "ours": ours,
            "tf.data, batches parsed": lambda: tensorflow(True),
            "tf.data, examples parsed": lambda: tensorflow(False),
        }.items():
            cpu, clock = cpu_rate(count, work)
            print(f"{name:32} {cpu:22,.0f} {clock:12,.0f}")


if __name__ == "__main__":
    main()
