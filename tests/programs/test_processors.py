"""The promises again, by the arithmetic of other processors, each in a process of its own.

Libraries of linear algebra choose their kernels by the processor, and can be told to take others.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from tests.running import HANG_SECONDS, ROOT, assert_success

pytestmark = pytest.mark.slow

BLAS_KERNELS = ("Haswell", "Zen", "SkylakeX", "Sandybridge", "Prescott")

# A text's vectors do not depend on the batch; the golden sentences, and the golden text by one
# worker and by two.
SENTENCES = [
    "tests.sentences.test_compiled_product",
    "tests.sentences.test_splitter::test_golden_sentences",
    "tests.sentences.test_splitter::test_vectors_do_not_hang_on_the_batch",
    "tests.sentences.test_splitter::test_a_pipelines_vectors_do_not_hang_on_the_batch",
    "tests.programs.test_format_notes::test_published_rules_and_spacy_give_the_golden_text",
]

TRAINING = [
    "tests.test_modeling::test_forward_pass_is_googles",
    "tests.pretraining.test_loop::test_twenty_steps_are_googles[False]",
    "tests.pretraining.test_loop::test_evaluation_is_googles",
]

MIXED_PRECISION = ["tests.test_modeling::test_mixed_precision_is_near_and_answers_in_float32"]

# As compiled for a processor with nothing later than SSE2.
SSE2 = {
    "OPENBLAS_CORETYPE": "Prescott",
    "NUMBA_CPU_NAME": "x86-64",
    "NUMBA_CPU_FEATURES": "",
    "NPY_DISABLE_CPU_FEATURES": "SSE41 POPCNT SSE42 AVX F16C FMA3 AVX2",
}

WITHOUT_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}
ONEDNN_SSE41 = {"ONEDNN_MAX_CPU_ISA": "SSE41"}
ONEDNN_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with no setting of arithmetic but these."""
    names = {*SSE2, *WITHOUT_ONEDNN, *ONEDNN_SSE41}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env={**inherited, **environment},
        capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip


def _run_tests(environment: dict[str, str], tests: list[str], folder: Path) -> str:
    """Runs tests, told by the dotted names of their modules; none may be skipped.

    Returns:
      What they and their libraries have said.
    """
    options = ("-q", "-s", "-n0", "-pno:cacheprovider", f"--basetemp={folder / 'tests'}")
    result = _run(environment, "-m", "pytest", *options, "--pyargs", *tests)
    assert_success(result)
    summary = result.stdout.strip().splitlines()[-1]
    assert "passed" in summary
    assert "skipped" not in summary, summary
    return result.stdout


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


@pytest.mark.parametrize("kernel", BLAS_KERNELS)
def test_sentences_depend_on_no_kernel(kernel: str, tmp_path: Path) -> None:
    own = [library.get("architecture") for library in threadpoolctl.threadpool_info()]
    if kernel in own:
        pytest.skip(f"NumPy's {kernel} kernels are those by which all other tests run here")
    _require_blas_kernel(kernel)
    _run_tests({"OPENBLAS_CORETYPE": kernel}, SENTENCES, tmp_path)


def test_a_tokens_vector_is_the_same_bits_on_an_old_processor(tmp_path: Path) -> None:
    _require_blas_kernel(SSE2["OPENBLAS_CORETYPE"])
    vectors = []
    for environment in ({}, SSE2):
        path = tmp_path / "vectors.npy"
        assert_success(_run(environment, "-m", "tests.sentences.sentence_vectors", str(path)))
        vectors.append(np.load(path))
    np.testing.assert_array_equal(*vectors)


def _has_products_in_bfloat16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text().split()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (WITHOUT_ONEDNN, ""),
        (WITHOUT_ONEDNN | ONEDNN_SSE41, ""),
        (ONEDNN_SSE41, "isa:Intel SSE4.1\n"),
        (ONEDNN_AVX2, "isa:Intel AVX2\n"),
    ],
    ids=repr,
)
def test_training_is_googles_by_any_kernel(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    """With or without oneDNN, and what it is kept from; mixed precision where it cannot crash."""
    is_onednn = environment.get("TF_ENABLE_ONEDNN_OPTS") != "0"
    tests = [*TRAINING, *(() if is_onednn else MIXED_PRECISION)]
    shown = _run_tests({**environment, "ONEDNN_VERBOSE": "1"}, tests, tmp_path)
    assert said in shown


@pytest.mark.parametrize("environment", [ONEDNN_SSE41, ONEDNN_AVX2], ids=repr)
def test_mixed_precision_is_near_by_any_kernel(environment: dict[str, str], tmp_path: Path) -> None:
    if _has_products_in_bfloat16():
        pytest.skip(
            "TensorFlow 2.21 asks oneDNN for products in bfloat16 because the processor has "
            "AVX512-BF16, and crashes where ONEDNN_MAX_CPU_ISA forbids them"
        )
    _run_tests(environment, MIXED_PRECISION, tmp_path)


_PROBE_TENSORFLOW = """
from bert_clinical.nn.tensorflow import tf
from tensorflow.python.util import _pywrap_util_port
print("oneDNN:", _pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.parametrize(
    ("environment", "expected"), [({}, "oneDNN: True\n"), (WITHOUT_ONEDNN, "oneDNN: False\n")],
    ids=repr,
)  # fmt: skip
def test_tensorflow_takes_the_setting(environment: dict[str, str], expected: str) -> None:
    probe = _run(environment, "-c", _PROBE_TENSORFLOW)
    assert_success(probe)
    assert probe.stdout == expected
