"""What every test process needs before its first test."""

import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bert_clinical.weights import pytorch_process
from tests.one_framework.sitecustomize import Guard
from tests.running import WARM_PYTORCH
from tests.warm_programs import WarmProcess, start_pytorch

# A shell that starts the tests in its background has them ignore Ctrl-C, and nohup the end of the
# terminal; their children would too. The tests that send these need the ordinary dispositions.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _refuse_pytorch(name: str) -> None:
    # spaCy's thinc takes PyTorch where it can be had and does without where this is raised.
    if name == "torch":
        raise ImportError("tests have TensorFlow; they call PyTorch through tests.theirs")


sys.meta_path.insert(0, Guard(_refuse_pytorch))

# The processes that tests start, and those that they start.
_GUARD = str(Path(__file__).parent / "one_framework")
sys.path.append(_GUARD)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_GUARD, os.environ.get("PYTHONPATH")]))


@pytest.fixture
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the picture at the end of each run in this process, which takes half a second."""
    monkeypatch.setattr("bert_clinical.pretraining.log.draw_curves", lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def with_warm_pytorch() -> Iterator[None]:
    """Spares each conversion in this process an import of PyTorch and transformers."""

    def started(pipe: Connection) -> WarmProcess:
        return start_pytorch(WARM_PYTORCH.address(), pipe)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch_process, "_started", started)
        yield
