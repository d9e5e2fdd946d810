"""Entity F1 of `run_ner` beside that of transformers' own Trainer, over the same seeds.

    python -m tests.benchmarks.fine_tuning_agreement --data_dir=DATA --transformers_dir=MODEL \\
      --output_dir=agreement [--trainer_python=PYTHON] [--seeds 1 2 3]

DATA is a folder as `run_ner` takes it (docs/evaluation.md says where public ones are), MODEL a
transformers folder. The Trainer runs in a process of its own, in a Python that has PyTorch,
transformers and accelerate. Weight decay and Adam's epsilon are Google's on both sides; what is
left of differences:

- the rate after warm-up: Google's is `rate * (1 - step / steps)`, the Trainer's
  `rate * (steps - step) / (steps - warm-up)`, up to a ninth above it; none at
  --warmup_proportion=0;
- the norm that gradients are clipped by: Google's counts each row of the embeddings' gradient for
  itself;
- the new layer: a normal distribution, Google's cut off at two deviations;
- an epoch's last batch: the Trainer's is short, Google's goes on in the next epoch;
- sentences above --max_seq_length: here they are read in windows, there they lose their end, whose
  words count as `O`.

Both sides keep the epoch with the highest F1 on the dev data, and are scored over all words. What
is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.running import ROOT

# As bert_clinical.optimization has them, which would bring TensorFlow here.
_GOOGLES = {"weight_decay": 0.01, "adam_epsilon": 1e-6}

_FLAGS = (
    ("max_seq_length", int, 128),
    ("num_train_epochs", float, 2.0),
    ("train_batch_size", int, 32),
    ("learning_rate", float, 2e-4),
    ("warmup_proportion", float, 0.1),
)


def ours(values: argparse.Namespace, seed: int) -> dict[str, float]:
    """Returns `run_ner`'s F1 by part."""
    output_dir = values.output_dir / f"run_ner_{seed}"
    if not (output_dir / "eval_results.json").exists():
        flags = [f"--{name}={getattr(values, name)}" for name, _, _ in _FLAGS]
        subprocess.run(
            [sys.executable, "-m", "bert_clinical.run_ner", "--task_name=conll", "--do_eval",
             f"--data_dir={values.data_dir}", f"--transformers_dir={values.transformers_dir}",
             f"--output_dir={output_dir}", f"--random_seed={seed}", *flags],
            check=True,
        )  # fmt: skip
    results = json.loads((output_dir / "eval_results.json").read_text())
    return {"dev": results["eval_f"], "test": results["test_f"]}


def theirs(values: argparse.Namespace, seed: int) -> dict[str, float]:
    """Returns the Trainer's F1 by part."""
    done = values.output_dir / f"trainer_{seed}.json"
    if not done.exists():
        settings = values.output_dir / "trainer_settings.json"
        settings.write_text(
            json.dumps({
                **{name: getattr(values, name) for name, _, _ in _FLAGS},
                **_GOOGLES, "data_dir": str(values.data_dir),
                "transformers_dir": str(values.transformers_dir), "seeds": [seed],
            })
        )  # fmt: skip
        found = subprocess.run(
            [values.trainer_python, "-m", "tests.benchmarks.trainer_ner", str(settings)],
            check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        ).stdout  # fmt: skip
        done.write_text(found.splitlines()[-1])
    return json.loads(done.read_text())


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("data_dir", "transformers_dir", "output_dir"):
        parser.add_argument(f"--{name}", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--trainer_python", default=sys.executable)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    for name, kind, default in _FLAGS:
        parser.add_argument(f"--{name}", type=kind, default=default)
    values = parser.parse_args()
    values.output_dir.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in values.seeds:
        for side, measure in (("run_ner", ours), ("Trainer", theirs)):
            found = measure(values, seed)
            rows.append({"side": side, "dev": 100 * found["dev"], "test": 100 * found["test"]})
            print(f"seed {seed}, {side}: test F1 {rows[-1]['test']:.2f}", flush=True)
    table = pd.DataFrame(rows).groupby("side", sort=False).agg(["mean", "std"])
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
