"""TensorFlow is imported without what it would import along."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.running import ROOT, assert_success

# Keras is free to be set to PyTorch, which crashes in one process with TensorFlow.
CODE = """
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
from bert_clinical.nn.tensorflow import tf
assert not {"keras", "torch", "sklearn", "matplotlib", "pandas"} & set(sys.modules)
from bert_clinical.nn.tensorflow import import_tensorflow_text
assert import_tensorflow_text().normalize_utf8(["e"], "NFD").numpy() == [b"e"]
assert os.environ["KERAS_BACKEND"] == "torch" and "torch" not in sys.modules
assert tf.keras.layers.Dense(3)(tf.ones([1, 2])).shape == (1, 3)
from tensorflow.keras import layers
assert layers.Dense is tf.keras.layers.Dense
"""


@pytest.mark.slow
def test_keras_is_not_imported_along_and_can_be_had_later() -> None:
    assert_success(
        subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    )
