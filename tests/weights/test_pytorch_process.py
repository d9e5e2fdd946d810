"""PyTorch's process: what it answers, how its end is told, and that TensorFlow stays out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.weights import pytorch_process
from bert_clinical.weights.pytorch_process import PyTorchProcess
from data_prep.common.errors import UserError
from tests.one_framework import sitecustomize
from tests.running import HANG_SECONDS
from tests.theirs import needs_transformers

PLANTED = "Quixzandorph"


def doubled(value: np.ndarray, *, times: int = 1) -> np.ndarray:
    return value * 2 * times


def counted(end: int) -> Iterator[int]:
    yield from range(end)


def process_id() -> int:
    return os.getpid()


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def complain() -> None:
    raise UserError("the file is odd")


def fail() -> None:
    raise ValueError(PLANTED)


def chatter() -> int:
    print(PLANTED)
    os.write(2, PLANTED.encode())
    return 1


def import_tensorflow() -> None:
    import tensorflow  # noqa: F401


def die_of_segv(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def die_of_memory() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(3)


_started = pytorch_process._started


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch_process, "_started", _started)


@pytest.fixture
def process() -> Iterator[PyTorchProcess]:
    with PyTorchProcess("the work", "do it by hand") as started:
        yield started


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_arrays_go_there_and_come_back(process):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(process.call(doubled, value, times=3), value * 6)
    assert process.call(process_id) not in (os.getpid(), None)


def test_a_generator_is_read_item_by_item(process):
    assert list(process.iterate(counted, 5)) == [0, 1, 2, 3, 4]
    assert list(process.iterate(counted, 0)) == []
    assert process.call(doubled, np.float32(2)) == 4


def test_what_is_printed_there_stays_there(process, capfd):
    assert process.call(chatter) == 1
    assert capfd.readouterr() == ("", "")


def test_errors_come_back_and_the_process_goes_on(process):
    with pytest.raises(UserError, match=r"^the file is odd$"):
        process.call(complain)
    with pytest.raises(UserError, match=r"unexpected ValueError .* withheld") as raised:
        process.call(fail)
    assert PLANTED not in str(raised.value)
    assert process.call(doubled, 1) == 2


def test_tensorflow_cannot_be_imported_there(process):
    with pytest.raises(UserError, match="unexpected ModuleNotFoundError"):
        process.call(import_tensorflow)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (die_of_segv, "the work was killed by SIGSEGV; do it by hand"),
        (die_of_memory, "was killed by SIGKILL, as happens when memory runs out; do it"),
        (leave, "the work ended with exit status 3; do it by hand"),
    ],
)
def test_its_end_is_one_line(process, end, told):
    for _ in range(2):
        with pytest.raises(UserError) as raised:
            process.call(end)
        assert told in str(raised.value)


def test_it_ends_with_its_block_and_with_an_unfinished_generator():
    with PyTorchProcess("the work", "wait") as process:
        first = process.call(process_id)
        process.call(stubborn)
        assert is_running(first)
    assert not is_running(first)
    process = PyTorchProcess("the work", "wait")
    second = process.call(process_id)
    items = process.iterate(counted, 10**9)
    assert next(items) == 0
    items.close()
    assert not is_running(second)


def test_it_ends_when_its_parent_is_killed():
    code = (
        "import os, signal\n"
        "from bert_clinical.weights.pytorch_process import PyTorchProcess\n"
        "from tests.weights.test_pytorch_process import process_id\n"
        "print(PyTorchProcess('the work', 'wait').call(process_id), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    pid = int(ended.stdout)
    # Its pipe has ended; only a process that hangs outlives that.
    end = time.monotonic() + HANG_SECONDS
    while is_running(pid) and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < end, "the process outlived its parent"
        time.sleep(0.1)


@needs_transformers
@pytest.mark.parametrize("order", [("tensorflow", "torch"), ("torch", "tensorflow")])
def test_the_guard_of_the_tests_sees_both(order):
    """Each of the two is allowed in a process of its own; the second one ends it."""
    code = "import {}; print('first', flush=True); import {}; print('both')".format(*order)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (sitecustomize.EXIT_STATUS, "first\n")
    assert f"{order[0]} and {order[1]} in one process" in ended.stderr


@needs_transformers
def test_no_test_has_pytorch():
    with pytest.raises(ImportError, match=r"tests\.theirs"):
        import torch  # noqa: F401
