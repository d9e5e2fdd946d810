"""Installs a bundle without a network: the whole of it, on a machine that cannot reach any other.

    python -m tests.drills.offline_bundle [--folder DIR] [-- OPTION ...]

Makes a bundle of this checkout (1 GB from the package index), with stand-ins for BioBERT and the
SciSpacy model unless BIOBERT_DIR or BIOBERT_URL and SCISPACY_MODEL_URL name real ones; options go
to make_offline_bundle.sh. Then runs its install.sh in a network namespace without so much as a
loopback, with an empty home and nothing set; and again with one byte of a wheel changed,
which must be refused. Needs root, or user namespaces.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.programs.test_run_scripts import TestInstallScispacyModel, make_biobert
from tests.running import ROOT


def run(*command: object, **variables: str) -> None:
    """Runs a command, shows it and what it says; fails if it does."""
    print("$", *command, flush=True)
    begin = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, env={**os.environ, **variables})
    print(f"({time.monotonic() - begin:.0f} s)\n", flush=True)


def without_network(home: Path, *command: object) -> list[str]:
    """Returns a command line that runs another one where no network is."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    clean = ["env", "-i", f"HOME={home}", f"PATH={os.environ['PATH']}", "LANG=C.UTF-8"]
    return [*unshare, *clean, *map(str, command)]


def make_bundle(folder: Path, options: list[str]) -> Path:
    variables = {"BUNDLE_DIR": str(folder / "bundle")}
    if not {"BIOBERT_DIR", "BIOBERT_URL"} & set(os.environ):
        variables["BIOBERT_DIR"] = str(make_biobert(folder / "biobert_v1.0_pubmed_pmc"))
    if "SCISPACY_MODEL_URL" not in os.environ:
        models = TestInstallScispacyModel()
        wheel = models.make_wheel(folder, models.make_model(folder / "model"))
        variables["SCISPACY_MODEL_URL"] = str(wheel)
    run(
        ROOT / "run_scripts" / "make_offline_bundle.sh",
        *options,
        PYTHON=sys.executable,
        **variables,
    )
    return folder / "bundle"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("options", nargs="*")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="offline_bundle."))
    folder.mkdir(parents=True, exist_ok=True)
    bundle = make_bundle(folder, arguments.options)
    home = folder / "home"
    home.mkdir()

    cut_off = without_network(
        home, "python3", "-c", "import socket; socket.create_connection(('1.1.1.1', 443), 5)"
    )
    reached = subprocess.run(cut_off, capture_output=True, text=True)
    assert reached.returncode != 0, "the network is not cut off"
    print("Without a network:", reached.stderr.splitlines()[-1], "\n", flush=True)

    run(*without_network(home, bundle / "install.sh"))
    check_installation(bundle, home)
    check_that_damage_is_refused(bundle, home)
    if arguments.folder is None:
        shutil.rmtree(folder)
    return 0


def check_installation(bundle: Path, home: Path) -> None:
    """Checks that everything is there and fits together."""
    installed = bundle / "bert-clinical"
    python = installed / ".venv" / "bin" / "python"
    assert (installed / "quickstart_output" / "transformers" / "model.safetensors").is_file()
    check = without_network(home, python, "-m", "pip", "check")
    found = subprocess.run(check, capture_output=True, text=True).stdout.splitlines()
    print("pip check:", *found, sep="\n  ")
    # Its model asks for an older spaCy than it runs on.
    assert all(line.startswith(("en-core-sci-md ", "No broken")) for line in found)
    run(*without_network(home, python.parent / "format_notes", "--version"))


def check_that_damage_is_refused(bundle: Path, home: Path) -> None:
    """Checks that a bundle of which one bit is wrong is not installed."""
    installed = bundle / "bert-clinical"
    shutil.rmtree(installed)
    wheel = max((bundle / "wheels").iterdir(), key=lambda path: path.stat().st_size)
    with wheel.open("r+b") as stream:
        stream.seek(wheel.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))
    refused = subprocess.run(
        without_network(home, bundle / "install.sh"), capture_output=True, text=True
    )
    print(refused.stderr)
    assert refused.returncode == 1 and wheel.name in refused.stderr
    assert not installed.exists()


if __name__ == "__main__":
    sys.exit(main())
