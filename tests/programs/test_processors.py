"""The promises again, by the arithmetic of other processors, each in a process of its own.

A library of linear algebra takes its kernels by the processor it finds, and can be told to take
those of another.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.running import ROOT, assert_success

pytestmark = pytest.mark.slow

BLAS_KERNELS = ("Haswell", "Zen", "SkylakeX", "Sandybridge", "Prescott")

# Whatever stays the same whoever is in the batch, and the golden sentences and text.
SENTENCES = [
    "tests/sentences/test_compiled_product.py",
    "tests/sentences/test_splitter.py::test_golden_sentences",
    "tests/sentences/test_splitter.py::test_vectors_do_not_hang_on_the_batch",
    "tests/sentences/test_splitter.py::test_a_pipelines_vectors_do_not_hang_on_the_batch",
    "tests/programs/test_format_notes.py::test_published_rules_and_spacy_give_the_golden_text",
]

TRAINING = [
    "tests/test_modeling.py::test_forward_pass_is_googles",
    "tests/test_modeling.py::test_mixed_precision_is_near_and_answers_in_float32",
    "tests/pretraining/test_loop.py::test_twenty_steps_are_googles[False]",
    "tests/pretraining/test_loop.py::test_evaluation_is_googles",
    "tests/pretraining/test_loop.py::test_interrupted_and_uninterrupted_runs_are_the_same",
]

# For each: the environment, whether TensorFlow then takes oneDNN's operations, and the newest
# instructions of the oneDNN that also stands below TensorFlow's own, None for any.
TENSORFLOW: dict[str, tuple[dict[str, str], bool, str | None]] = {
    "as we start it": ({}, True, None),
    "without oneDNN": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, False, None),
    "SSE4.1": ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, True, "isa:Intel SSE4.1\n"),
    "AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, True, "isa:Intel AVX2\n"),
    "without oneDNN, SSE4.1": (
        {"TF_ENABLE_ONEDNN_OPTS": "0", "ONEDNN_MAX_CPU_ISA": "SSE41"}, False, "isa:Intel SSE4.1\n"
    ),
}  # fmt: skip


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with no setting of arithmetic but these."""
    names = {name for settings, *_ in TENSORFLOW.values() for name in settings}
    names |= {name for settings in OTHER_PROCESSORS.values() for name in settings}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip


def _run_tests(environment: dict[str, str], tests: list[str], folder: Path) -> None:
    options = ("-q", "-n0", "-pno:cacheprovider", f"--basetemp={folder / 'tests'}")
    result = _run(environment, "-m", "pytest", *options, *tests)
    assert_success(result)
    summary = result.stdout.strip().splitlines()[-1]
    assert "passed" in summary
    assert "skipped" not in summary, summary


_PROBE_BLAS = """
import numpy, threadpoolctl
numpy.ones((64, 64), "f") @ numpy.ones((64, 64), "f")
print([library.get("architecture") for library in threadpoolctl.threadpool_info()])
"""


def _require_blas_kernel(kernel: str) -> None:
    """Skips a test where NumPy's library does not take that kernel or the processor cannot."""
    probe = _run({"OPENBLAS_CORETYPE": kernel}, "-c", _PROBE_BLAS)
    if probe.returncode or kernel not in ast.literal_eval(probe.stdout):
        pytest.skip(f"this processor cannot run NumPy's {kernel} kernels")


@pytest.mark.parametrize("kernel", [None, *BLAS_KERNELS])
def test_sentences_hang_on_no_kernel(kernel: str | None, tmp_path: Path) -> None:
    if kernel is not None:
        _require_blas_kernel(kernel)
    _run_tests({"OPENBLAS_CORETYPE": kernel} if kernel else {}, SENTENCES, tmp_path)


OTHER_PROCESSORS = {
    **{kernel: {"OPENBLAS_CORETYPE": kernel} for kernel in BLAS_KERNELS},
    # As compiled for a processor with nothing later than SSE2.
    "SSE2": {
        "OPENBLAS_CORETYPE": "Prescott",
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "",
        "NPY_DISABLE_CPU_FEATURES": "SSE41 POPCNT SSE42 AVX F16C FMA3 AVX2",
    },
}


@pytest.fixture(scope="module")
def own_vectors(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = tmp_path_factory.mktemp("vectors") / "own.npy"
    assert_success(_run({}, "-m", "tests.sentences.sentence_vectors", str(path)))
    return np.load(path)


@pytest.mark.parametrize("processor", OTHER_PROCESSORS)
def test_a_tokens_vectors_are_the_same_bits(
    processor: str, own_vectors: np.ndarray, tmp_path: Path
) -> None:
    environment = OTHER_PROCESSORS[processor]
    _require_blas_kernel(environment["OPENBLAS_CORETYPE"])
    path = tmp_path / "vectors.npy"
    assert_success(_run(environment, "-m", "tests.sentences.sentence_vectors", str(path)))
    np.testing.assert_array_equal(np.load(path), own_vectors)


@pytest.mark.parametrize("setting", TENSORFLOW)
def test_training_is_googles_by_any_kernel(setting: str, tmp_path: Path) -> None:
    _run_tests(TENSORFLOW[setting][0], TRAINING, tmp_path)


_PROBE_TENSORFLOW = """
from bert_clinical.nn.tensorflow import tf
from tensorflow.python.util import _pywrap_util_port
print("oneDNN:", _pywrap_util_port.IsMklEnabled())
tf.function(lambda x: tf.matmul(x, x))(tf.ones([64, 64]))
"""


@pytest.mark.parametrize("setting", TENSORFLOW)
def test_tensorflow_takes_the_setting(setting: str) -> None:
    environment, enabled, instructions = TENSORFLOW[setting]
    probe = _run({**environment, "ONEDNN_VERBOSE": "1"}, "-c", _PROBE_TENSORFLOW)
    assert_success(probe)
    assert f"oneDNN: {enabled}\n" in probe.stdout
    assert instructions is None or instructions in probe.stdout
