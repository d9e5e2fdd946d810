"""make_offline_bundle.sh and install.sh, with a project of one tiny package in the place of ours.

The whole, with every wheel and without a network, is `python -m tests.drills.offline_bundle`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from data_prep.common.atomic_files import sha256_of_file
from tests.programs.test_run_scripts import assert_fails, make_biobert
from tests.running import HANG_SECONDS, ROOT

SETUP = """from setuptools import setup
setup(
    name="bert-clinical",
    install_requires=["tiny>=1", "absent; python_version < '3'"],
    extras_require={"sql": ["tinier"], "beam": [], "gpu": []},
)
"""

# A build backend that needs no package: pip installs the checkout with it, editable.
BACKEND = """import zipfile
NAME = "bert_clinical-1.0"
FILES = {
    "bert_clinical.pth": __file__.rpartition("/")[0],
    f"{NAME}.dist-info/METADATA": "Metadata-Version: 2.1\\nName: bert-clinical\\nVersion: 1.0",
    f"{NAME}.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any",
    f"{NAME}.dist-info/RECORD": "",
}
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/{NAME}-py3-none-any.whl", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text and text + "\\n")
    return f"{NAME}-py3-none-any.whl"
"""

QUICKSTART = """#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run_scripts/set_up.sh
.venv/bin/python -c 'import tiny, bert_clinical; print("quickstart with tiny", tiny.VERSION)'
"""


def make_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, content in files.items():
            wheel.writestr(inner, content)
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", head)
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", "")
    return path


def pip_wheel(folder: Path) -> Path:
    """Packs the pip that runs here."""
    pip = metadata.distribution("pip")
    files = {
        str(path): Path(str(pip.locate_file(path))).read_bytes()
        for path in pip.files or ()
        if path.parts[0] == "pip" and path.suffix not in (".pyc", ".exe")
    }
    return make_wheel(folder, "pip", pip.version, files)


class Machine:
    """A tiny checkout beside an index of wheels, as the machine with a network has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "checkout"
        self.index = folder / "index"
        shutil.copytree(ROOT / "run_scripts", self.checkout / "run_scripts")
        (self.checkout / "run_scripts" / "quickstart.sh").write_text(QUICKSTART)
        (self.checkout / "bert_clinical").mkdir()
        (self.checkout / "bert_clinical" / "__init__.py").touch()
        (self.checkout / "requirements.txt").write_text("tiny==1.5\n")
        (self.checkout / "setup.py").write_text(SETUP)
        (self.checkout / "backend.py").write_text(BACKEND)
        (self.checkout / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        wheels = {
            name: make_wheel(self.index, name, "1.5", {f"{name}.py": b'VERSION = "1.5"\n'})
            for name in ("tiny", "below_tiny", "tinier", "stranger")
        }
        self.pip = pip_wheel(self.index)
        parents = {"below_tiny": "tiny", "stranger": "nobody"}
        lines = ["# by uv"]
        for name, wheel in wheels.items():
            lines += [
                f"{name.replace('_', '-')}==1.5 \\",
                f"    --hash=sha256:{sha256_of_file(wheel)}",
                f"    # via {parents.get(name, 'bert-clinical (setup.py)')}",
            ]
        (self.checkout / "requirements.lock").write_text("\n".join(lines) + "\n")

    def make(self, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        pinned = f"pip=={metadata.version('pip')} --hash=sha256:{sha256_of_file(self.pip)}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        env = {
            **kept, "PYTHON": sys.executable, "BUNDLE_DIR": "bundle", "PINNED_PIP": pinned,
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index),
        }  # fmt: skip
        return subprocess.run(
            [str(self.checkout / "run_scripts" / "make_offline_bundle.sh"), *options],
            cwd=self.folder, env={**env, **{name: str(value) for name, value in variables.items()}},
            capture_output=True, text=True, timeout=HANG_SECONDS,
        )  # fmt: skip


WITHOUT_MODELS = ("--without-biobert", "--without-scispacy-model")


def install(bundle: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs install.sh with nothing set that would lead to an index."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))
    }
    return subprocess.run(
        [str(bundle / "install.sh")], cwd=bundle.parent,
        env={**kept, "PYTHON_FOR_VENV": sys.executable, **variables},
        capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.slow
def test_a_bundle_installs_itself_and_goes_on(machine: Machine) -> None:
    made = machine.make(*WITHOUT_MODELS)
    assert made.returncode == 0, made.stdout + made.stderr
    bundle = machine.folder / "bundle"
    wheels = sorted(path.name.partition("-")[0] for path in (bundle / "wheels").iterdir())
    # Neither the extra's package nor one that nobody needs.
    assert wheels == ["below_tiny", "pip", "tiny"]
    assert [path.name for path in machine.folder.glob("bundle*")] == ["bundle"]
    # Where the machine that made it is not.
    shutil.rmtree(machine.checkout)
    shutil.rmtree(machine.index)
    bundle = bundle.rename(machine.folder / "other machine")
    for _ in range(2):
        result = install(bundle)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "quickstart with tiny 1.5" in result.stdout
    python = bundle / ".venv" / "bin" / "python"
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True).stdout
    assert {line.split()[0] for line in listed.splitlines()[2:]} == {
        "below_tiny", "bert-clinical", "pip", "tiny",
    }  # fmt: skip


@pytest.mark.slow
def test_an_extra_and_another_place(machine: Machine) -> None:
    assert machine.make("--extras", "sql", *WITHOUT_MODELS).returncode == 0
    bundle = machine.folder / "bundle"
    result = install(bundle, INSTALL_DIR="elsewhere")
    assert result.returncode == 0, result.stdout + result.stderr
    venv = machine.folder / "elsewhere" / ".venv"
    assert list(venv.glob("lib/python*/site-packages/tinier.py"))
    assert not (bundle / "bert-clinical").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: next((b / "wheels").glob("tiny*")).write_bytes(b"x"), "./wheels/tiny-1.5"),
        (lambda b: next((b / "wheels").glob("tiny*")).unlink(), "./wheels/tiny-1.5"),
        (lambda b: (b / "bert-clinical.tar.gz").write_bytes(b""), "./bert-clinical.tar.gz"),
        (lambda b: (b / "wheels" / "more.whl").touch(), "found ./wheels/more.whl, which is not"),
        (lambda b: os.truncate(b / "SHA256SUMS", 200), "SHA256SUMS"),
        (lambda b: (b / "SHA256SUMS").unlink(), "holds no SHA256SUMS"),
        (
            lambda b: [
                (b / "bundle.env").write_text(
                    (b / "bundle.env").read_text().replace("PYTHON_VERSION=3", "PYTHON_VERSION=4")
                ),
                subprocess.run("sha256sum $(cut -c67- SHA256SUMS) >new; mv new SHA256SUMS",
                               shell=True, cwd=b, check=True),
            ],
            "found no Python 4.",
        ),
    ],
    ids=["changed", "lost", "empty", "more", "cut", "no sums", "another Python"],
)  # fmt: skip
def test_a_bundle_that_is_not_whole_is_refused(machine: Machine, spoil, message: str) -> None:
    assert machine.make(*WITHOUT_MODELS).returncode == 0
    bundle = machine.folder / "bundle"
    spoil(bundle)
    assert_fails(install(bundle), 1, message)
    assert not (bundle / "bert-clinical").exists()


@pytest.mark.slow
def test_copies_of_the_models_come_along(machine: Machine) -> None:
    make_biobert(machine.folder / "my biobert")
    model = machine.folder / "en_core_sci_md-0.5.4.tar.gz"
    model.write_bytes(b"a model")
    made = machine.make(BIOBERT_DIR="my biobert", SCISPACY_MODEL_URL=model)
    assert made.returncode == 0, made.stderr
    assert f"SHA-256 {sha256_of_file(model)} (not compared" in made.stdout
    models = machine.folder / "bundle" / "models"
    assert {path.name for path in models.iterdir()} == {"biobert.tar.gz", model.name}
    sums = (machine.folder / "bundle" / "SHA256SUMS").read_text()
    assert f"{sha256_of_file(model)}  ./models/{model.name}\n" in sums
    # On the other machine they go through the scripts that check them.
    result = install(machine.folder / "bundle")
    assert "Getting" in result.stdout and "SHA-256 as expected" in result.stdout
    assert_fails(result, 1, "no complete archive of a spaCy model")


@pytest.mark.parametrize(
    ("options", "variables", "status", "message"),
    [
        (["--python-version=3.10"], {}, 2, "--python-version: found 3.10"),
        (["--platform=linux"], {}, 2, "--platform: found linux"),
        (["--extras=sql,tests"], {}, 2, "--extras: found tests"),
        (["--extras"], {}, 2, "--extras: found no value"),
        (["--help-me"], {}, 2, "found --help-me"),
        ([], {"BUNDLE_DIR": ""}, 2, "BUNDLE_DIR is not set"),
        ([], {"BUNDLE_DIR": "index"}, 1, "is there already"),
        ([], {"BIOBERT_DIR": "index"}, 1, "holds no bert_config.json"),
        (["--without-scispacy-model"], {"BIOBERT_URL": "gone"}, 1, "gone: no such file"),
        (["--without-biobert"], {"SCISPACY_MODEL_URL": "tiny", "SCISPACY_MODEL_SHA256": "0"}, 1,
         "expected 0"),
    ],
)  # fmt: skip
def test_mistakes(machine: Machine, options, variables, status: int, message: str) -> None:
    (machine.folder / "tiny").touch()
    assert_fails(machine.make(*options, **variables), status, message)
    assert not list(machine.folder.glob("bundle*"))


def test_a_wheel_with_another_hash_is_not_taken(machine: Machine) -> None:
    make_wheel(machine.index, "tiny", "1.5", {"tiny.py": b"VERSION = 'planted'\n"})
    made = machine.make(*WITHOUT_MODELS)
    assert made.returncode == 1 and "pip could not fetch all wheels" in made.stderr
    assert not list(machine.folder.glob("bundle*"))


def selected(*extras: str, python_version: str = "3.12") -> dict[str, str]:
    """Returns versions by package of this project's own locks."""
    result = subprocess.run(
        [sys.executable, ROOT / "run_scripts" / "bundle" / "select_from_lock.py", ROOT,
         f"--python-version={python_version}", "--machine=x86_64", f"--extras={','.join(extras)}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split() for line in result.stdout.splitlines()]
    assert all(len(line) > 1 and ";" not in line[0] for line in lines)
    return dict(line[0].split("==") for line in lines)


def test_a_bundle_has_what_its_extras_and_its_python_need() -> None:
    base, everything = selected(), selected("beam", "gpu", "sql")
    assert {"tensorflow", "spacy", "scispacy", "setuptools", "urllib3"} <= set(base)
    assert {"apache-beam", "pymongo", "nvidia-cudnn-cu12", "psycopg-binary"} <= set(everything)
    assert set(selected("sql")) - set(base) == {"psycopg", "psycopg-binary", "sqlalchemy"}
    assert {name.partition("-")[0] for name in set(selected("gpu")) - set(base)} == {"nvidia"}
    assert "apache-beam" not in selected("gpu", "sql")
    assert base["numpy"].startswith("1.") and "scipy" in base
    newest = selected(python_version="3.13")
    assert newest["numpy"].startswith("2.") and "scispacy" not in newest
