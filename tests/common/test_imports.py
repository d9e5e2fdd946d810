"""What is refused to a library along the way can be had afterwards."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from data_prep.common.imports import without

LIBRARY = """
try:
    import refused_part
except ImportError:
    refused_part = None
"""


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("refused_part", "import another_part"), ("another_part", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
    (tmp_path / "some_library.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("some_library", "refused_part", "another_part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


def test_a_library_does_without_and_others_do_not(tmp_path: Path) -> None:
    with without("refused_part", "not_installed"):
        library = importlib.import_module("some_library")
        found = importlib.util.find_spec("refused_part")
        assert found is not None and found.origin == str(tmp_path / "refused_part" / "__init__.py")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("not_installed")
        importlib.import_module("another_part")
    assert library.refused_part is None
    assert "refused_part" not in sys.modules
    assert importlib.import_module("refused_part").another_part is sys.modules["another_part"]


def test_what_is_imported_already_stays() -> None:
    before = importlib.import_module("refused_part")
    with without("refused_part"):
        assert importlib.import_module("some_library").refused_part is before


def test_an_error_in_the_block_ends_the_refusal() -> None:
    finders = list(sys.meta_path)
    with pytest.raises(KeyError), without("refused_part"):
        raise KeyError
    assert sys.meta_path == finders
