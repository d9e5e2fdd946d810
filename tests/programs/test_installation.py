"""What is installed: requirements, pins and lock agree; sdist and wheel are whole and usable."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.running import HANG_SECONDS, ROOT
from tests.test_structure import PROGRAMS, imports, modules

SYSTEMS = [
    {"python_version": version, "python_full_version": f"{version}.1", "platform_machine": machine}
    for version in ("3.11", "3.12", "3.13")
    for machine in ("x86_64", "aarch64")
]
OPTIONAL = {
    "apache-beam": "beam",
    "protobuf": "beam",
    "sqlalchemy": "sql",
    "torch": "test",
    "transformers": "test",
}
# The model en_core_sci_md stands beside AI2's package; it loads without it.
NOT_IMPORTED = {"scispacy"}
# Programs whose command has another name than their module.
CONSOLE_SCRIPTS = {"data_prep.worker_pool": "bert-clinical-worker-pool"}


def setup_arguments() -> dict[str, Any]:
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    return setup.call_args.kwargs


def required(*extras: str) -> list[Requirement]:
    arguments = setup_arguments()
    lines = [*arguments["install_requires"]]
    for extra in extras:
        lines += arguments["extras_require"][extra]
    return [Requirement(line) for line in lines]


def pinned(name: str) -> list[Requirement]:
    """Returns the requirements of a file, without their hashes."""
    lines = (line.rstrip("\\ ") for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", " "))]


def versions_on(requirements: list[Requirement], system: dict[str, str]) -> dict[str, Version]:
    """Returns the pinned version of each package that a system gets, each of them once."""
    found = {}
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({**LINUX, **system}):
            (specifier,) = requirement.specifier
            name = canonicalize_name(requirement.name)
            assert specifier.operator == "=="
            assert name not in found, f"{name} is pinned twice on {system}"
            found[name] = Version(specifier.version)
    return found


LINUX = {**default_environment(), "sys_platform": "linux", "platform_system": "Linux"}


def test_every_import_is_required_and_every_requirement_imported() -> None:
    distributions = packages_distributions()
    imported = {
        canonicalize_name(distribution)
        for path in modules().values()
        for name in imports(path)
        for distribution in distributions.get(name.split(".")[0], ())
    } - {"bert-clinical"}
    needed = {canonicalize_name(requirement.name) for requirement in required()}
    optional = {name for name, extra in OPTIONAL.items() if name in imported}
    for name in optional:
        assert name in {canonicalize_name(r.name) for r in required(OPTIONAL[name])}
    assert imported - optional == needed - NOT_IMPORTED


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: "-".join(system.values()))
def test_lock_holds_the_pins_and_meets_the_requirements(system: dict[str, str]) -> None:
    locked = versions_on(pinned("requirements.lock"), system)
    pins = versions_on(pinned("requirements.txt"), system)
    assert pins.items() <= locked.items()
    for requirement in required("beam", "sql"):
        if requirement.marker is None or requirement.marker.evaluate({**LINUX, **system}):
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement
    assert ("scispacy" in locked) == (locked["numpy"] < Version("2"))
    with_gpu = versions_on(pinned("requirements-gpu.lock"), system)
    assert "nvidia-cudnn-cu12" in with_gpu
    shared = with_gpu.keys() & locked.keys()
    assert {name: with_gpu[name] for name in shared} == {name: locked[name] for name in shared}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gpu.lock"])
def test_every_package_of_the_lock_has_a_hash_and_none_an_address(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = text.split("\n    --hash=sha256:")
    assert len(entries) > 2 * len(pinned(name))
    for line in text.splitlines():
        if "==" in line and not line.lstrip().startswith("#"):
            assert line.endswith("\\"), line
    assert "://" not in text


def test_the_tests_take_the_versions_of_the_lock() -> None:
    locked = versions_on(pinned("requirements.lock"), SYSTEMS[0])
    for line in setup_arguments()["extras_require"]["test"]:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        known = locked.get(canonicalize_name(requirement.name), Version(specifier.version))
        assert requirement.specifier.contains(known), requirement


def test_the_workflow_gives_the_commands_of_the_readme_on_every_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    readme = (ROOT / "README.md").read_text()
    for command in commands:
        assert f"\n{command.split()[0]} " in readme, command
    assert "./run_scripts/run_tests.sh" in commands
    classifiers = setup_arguments()["classifiers"]
    for version in jobs["quick"]["strategy"]["matrix"]["python"]:
        assert f"Programming Language :: Python :: {version}" in classifiers
    assert sum("Python :: 3." in classifier for classifier in classifiers) == 3


def run(*command: object, folder: Path) -> str:
    """Runs a command outside the checkout; returns what it said on standard output."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows, so that building leaves no traces among them."""
    git = ["git", "-C", str(ROOT)]
    listed = subprocess.run([*git, "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("no git checkout, with which sdist and wheel could be compared")
    folder = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    return folder


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation: setuptools is there, and the network need not be.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ".", folder=checkout)
    return folder


@pytest.mark.slow
def test_sdist_holds_what_the_checkout_holds(checkout: Path, built: Path) -> None:
    expected = {str(p.relative_to(checkout)) for p in checkout.rglob("*") if p.is_file()}
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        found = {
            member.name.partition("/")[2]: member.mode for member in archive if member.isfile()
        }
    generated = {name for name in expected | set(found) if ".egg-info/" in name}
    generated |= {"PKG-INFO", "setup.cfg"}
    assert set(found) - generated == expected - generated
    assert all(found[name] & 0o100 for name in found if name.startswith("run_scripts/run_"))


@pytest.mark.slow
def test_wheel_holds_the_packages_and_says_what_it_is(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert set(modules()) <= {
        name.removesuffix(".py").replace("/", ".") for name in names if name.endswith(".py")
    }
    assert {"bert_clinical/py.typed", "data_prep/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "run_scripts/"))]
    assert "Requires-Python: >=3.11,<3.14" in metadata.splitlines()
    for version in ("3.11", "3.12", "3.13"):
        assert f"Classifier: Programming Language :: Python :: {version}" in metadata
    assert metadata.count("Project-URL: ") == 3


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs in a fresh environment that holds the wheel.

    What the wheel requires is that of the environment that runs the tests: pip finds it there, or
    fails, since it has no index.
    """
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", "environment", folder=folder)
    paths = {"base": str(folder / "environment"), "platbase": str(folder / "environment")}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    (packages / "required.pth").write_text(sysconfig.get_path("purelib") + "\n")
    programs = folder / "environment" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-index"]
    run(*pip, "--no-deps", next(built.glob("*.whl")), folder=folder)
    run(*pip, "bert-clinical", folder=folder)
    where = run(
        programs / "python", "-c", "import bert_clinical, data_prep; "
        "print(bert_clinical.__file__); print(data_prep.__file__)", folder=folder,
    )  # fmt: skip
    assert all(line.startswith(str(packages)) for line in where.splitlines())
    return programs


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_is_installed_under_its_name(
    installed: Path, program: str, tmp_path: Path
) -> None:
    name = CONSOLE_SCRIPTS.get(program, program.rpartition(".")[2])
    shown = run(installed / name, "--help", folder=tmp_path)
    assert "--" in shown


@pytest.mark.slow
def test_the_installed_programs_go_from_notes_to_a_transformers_folder(
    installed: Path, tmp_path: Path
) -> None:
    def program(name: str, *flags: str) -> None:
        run(installed / name, *flags, folder=tmp_path)

    program("sample_notes", "--output_file=notes.csv", "--num_notes=40", "--random_seed=7")
    program("format_notes", "--input_file=notes.csv", "--output_dir=text",
            "--sentence_splitter=rules")  # fmt: skip
    text = "--input_file=text/discharge_summary.txt"
    program("create_vocab", text, "--output_file=vocab.txt", "--vocab_size=500",
            "--do_lower_case=False")  # fmt: skip
    lengths = ("--max_seq_length=64", "--max_predictions_per_seq=10")
    program("create_pretraining_data", text, "--output_file=examples.tfrecord",
            "--vocab_file=vocab.txt", "--do_lower_case=False", *lengths)  # fmt: skip
    config = {
        "hidden_size": 24, "intermediate_size": 40, "max_position_embeddings": 64,
        "num_attention_heads": 3, "num_hidden_layers": 2, "type_vocab_size": 2,
        "vocab_size": len((tmp_path / "vocab.txt").read_text().splitlines()),
    }  # fmt: skip
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    program("run_pretraining", "--bert_config_file=bert_config.json", "--do_train",
            "--input_file=examples.tfrecord", "--output_dir=model", "--num_train_steps=3",
            "--num_warmup_steps=1", "--train_batch_size=4", *lengths)  # fmt: skip
    program("convert_to_transformers", "--init_checkpoint=model", "--vocab_file=vocab.txt",
            "--bert_config_file=bert_config.json", "--do_lower_case=False", "--noverify",
            "--output_dir=transformers")  # fmt: skip
    made = {path.name for path in (tmp_path / "transformers").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"} <= made
