"""Training steps of Google's own graph, for `training_step`; runs under TensorFlow 2.15 or 1.15.

    PYTHON_WITH_TF_2_15 tests/benchmarks/google_step.py --repository=BERT --batches=FILE.npz ...

Builds what the `model_fn` of the clone's `run_pretraining.py` builds and runs its `train_op` in a
session, as an Estimator does. What TensorFlow 2 no longer has of `tf.contrib` is given here.
"""

from __future__ import annotations

import argparse
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import step_server
import tensorflow.compat.v1 as tf


def layer_norm(
    inputs: Any, begin_norm_axis: int, begin_params_axis: int, scope: str | None = None
) -> Any:
    """Normalizes over the last axis by the operations of `tf.contrib.layers.layer_norm`."""
    if (begin_norm_axis, begin_params_axis) != (-1, -1):
        raise ValueError("only normalization over the last axis is known here")
    with tf.variable_scope(scope, "LayerNorm"):
        width = [inputs.shape[-1]]
        beta = tf.get_variable("beta", width, initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", width, initializer=tf.ones_initializer())
        mean, variance = tf.nn.moments(inputs, [-1], keep_dims=True)
        return tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-12)


def stand_in_for_contrib() -> None:
    """Lets `import tensorflow` find TensorFlow 1's names, and the parts of `tf.contrib` needed."""
    warnings.simplefilter("ignore")
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    tf.contrib = types.SimpleNamespace(
        layers=types.SimpleNamespace(layer_norm=layer_norm),
        tpu=types.SimpleNamespace(TPUEstimatorSpec=types.SimpleNamespace),
    )
    sys.modules["tensorflow"] = tf


def google(values: argparse.Namespace) -> Callable[[], float]:
    """Returns what makes a step of Google's graph and returns its loss."""
    stand_in_for_contrib()
    sys.path.insert(0, values.repository)
    import modeling
    import run_pretraining

    config = modeling.BertConfig(
        values.vocab, hidden_size=values.hidden, num_hidden_layers=values.layers,
        num_attention_heads=values.hidden // 64, intermediate_size=4 * values.hidden,
        type_vocab_size=2,
    )  # fmt: skip
    batches = dict(np.load(values.batches))
    features = {
        name: tf.placeholder(array.dtype, array.shape[1:]) for name, array in batches.items()
    }
    model_fn = run_pretraining.model_fn_builder(
        bert_config=config, init_checkpoint=None, learning_rate=5e-5, num_train_steps=100000,
        num_warmup_steps=0, use_tpu=False, use_one_hot_embeddings=False,
    )  # fmt: skip
    spec = model_fn(features, None, tf.estimator.ModeKeys.TRAIN, {})
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    made = 0

    def step() -> float:
        nonlocal made
        feeds = {features[name]: array[made % len(array)] for name, array in batches.items()}
        made += 1
        loss, _ = session.run([spec.loss, spec.train_op], feeds)
        return float(loss)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", required=True)
    parser.add_argument("--batches", required=True)
    for name in ("vocab", "layers", "hidden"):
        parser.add_argument(f"--{name}", type=int, required=True)
    step_server.serve(google(parser.parse_args()))


if __name__ == "__main__":
    main()
