"""What every test process needs before its first test."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.one_framework.sitecustomize import Guard

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
    """Leaves out the picture at the end of each run in this process, which takes a second."""
    monkeypatch.setattr("bert_clinical.pretraining.log.draw_curves", lambda *_: None)
