"""A signal to a script reaches the program that runs, and the script ends with its status."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from data_prep.common.atomic_files import sha256_of_file
from tests.running import HANG_SECONDS, ROOT, wait_until

SCRIPTS = ROOT / "run_scripts"
SOURCED = {
    "downloads.sh", "environment.sh", "fine_tuning_grid.sh", "second_phase.sh", "stages.sh",
    "slurm/job.sh", "slurm/preamble.sh",
}  # fmt: skip
# Hands jobs to SLURM, and runs nothing itself.
WITHOUT_PROGRAM = {"slurm/recipe.sh"}
SIGNALS = ["TERM", "INT", "HUP", "USR1", "USR2"]

# What each script needs to come to its first program.
VARIABLES: dict[str, dict[str, str]] = {
    "bundle/install.sh": {"PYTHON_FOR_VENV": sys.executable},
    "container/entry.sh": {},
    "convert_from_transformers.sh": {"TRANSFORMERS_DIR": "t", "OUTPUT_DIR": "o"},
    "convert_to_transformers.sh": {"INIT_CHECKPOINT": "m", "OUTPUT_DIR": "o"},
    "create_pretraining_data.sh": {"INPUT_FILE": "t", "VOCAB_FILE": "v", "OUTPUT_DIR": "o"},
    "create_vocab.sh": {"INPUT_FILE": "t", "OUTPUT_FILE": "o"},
    "download_biobert.sh": {"BIOBERT_URL": "https://localhost/b.tar.gz"},
    "evaluate_encoder.sh": {
        "TRANSFORMERS_DIR": "t", "START_TRANSFORMERS_DIR": "s", "DATA_DIR": ".", "OUTPUT_DIR": "o",
    },
    "evaluate.sh": {"INPUT_FILE": "t", "OUTPUT_DIR": "o", "BERT_CONFIG_FILE": "c"},
    "export_saved_model.sh": {"MODEL_DIR": "m", "OUTPUT_DIR": "o"},
    "extend_vocab.sh": {"INIT_CHECKPOINT": "m", "INPUT_FILE": "t", "OUTPUT_DIR": "o"},
    "extract_features.sh": {"MODEL_DIR": "m", "INPUT_FILE": "n", "OUTPUT_FILE": "o"},
    "format_notes.sh": {"NOTES": "n"},
    "install_scispacy_model.sh": {"SCISPACY_MODEL_URL": "https://localhost/m.tar.gz"},
    "make_offline_bundle.sh": {"BUNDLE_DIR": "b"},
    "quickstart.sh": {},
    "run_classifier.sh": {"TRANSFORMERS_DIR": "t", "DATA_DIR": "d", "OUTPUT_DIR": "o"},
    "run_clinical_bert.sh": {"NOTES": "n", "BIOBERT_DIR": "biobert", "OUTPUT_DIR": "o"},
    "run_ner.sh": {"TRANSFORMERS_DIR": "t", "DATA_DIR": "d", "OUTPUT_DIR": "o"},
    "run_pretraining.sh": {"INPUT_FILE": "t", "INIT_CHECKPOINT": "m", "OUTPUT_DIR": "o"},
    "run_tests.sh": {},
    "set_up.sh": {},
    "slurm/create_pretraining_data.sh": {
        "SLURM_JOB_ID": "7", "INPUT_FILE": "setup.py", "VOCAB_FILE": "v", "OUTPUT_DIR": "o",
    },
    "slurm/format_notes.sh": {"SLURM_JOB_ID": "7", "NOTES": "setup.py", "OUTPUT_DIR": "o"},
    "slurm/pretraining.sh": {
        "SLURM_JOB_ID": "7", "INPUT_FILE": "t", "INIT_CHECKPOINT": "m", "OUTPUT_DIR": "o",
    },
    "slurm/pretraining_on_nodes.sh": {
        "SLURM_JOB_ID": "7", "INPUT_FILE": "t", "INIT_CHECKPOINT": "m", "OUTPUT_DIR": "o",
    },
    "slurm/python_in_container.sh": {"CONTAINER_OPTIONS": "--nv", "CONTAINER": "image"},
    "slurm/transformers.sh": {
        "SLURM_JOB_ID": "7", "INPUT_FILE": "t", "MODEL_DIR": "m", "BIOBERT_DIR": "biobert",
        "OUTPUT_DIR": "o",
    },
}  # fmt: skip

ARGUMENTS = {
    "container/entry.sh": [".venv/bin/python", "-m", "data_prep.format_notes"],
    "slurm/python_in_container.sh": ["-m", "data_prep.format_notes"],
}

# Stand-ins for SLURM's and Apptainer's commands.
TOOLS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "squeue": "echo RUNNING",
    "scontrol": 'echo "$@" >>scontrol',
    "apptainer": 'while [[ $1 != python ]]; do shift; done; shift; exec .venv/bin/python "$@"',
}

PROGRAM = """#!{python}
# Stands in for Python: says that it runs, and ends with {status} or 128 + the number of a signal.
import os, pathlib, signal, sys
folder = pathlib.Path({folder!r})
if sys.argv[1:] == ["-m", "pip", "--version"] or sys.argv[1] == "-c":
    print("3.11")
    sys.exit(0)
def end(number, frame=None):
    (folder / "told").write_text(signal.Signals(number).name)
    sys.exit({status} if {status} is not None else 128 + number)
asked = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2
for number in asked:
    assert signal.getsignal(number) is not signal.SIG_IGN
    signal.signal(number, end)
with (folder / "programs").open("a") as programs:
    programs.write(" ".join(sys.argv[1:3]) + "\\n")
if {waits}:
    # Held back until it waits for them: one that came just before would not end signal.pause.
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    (folder / "pid.partial").write_text(str(os.getpid()))
    (folder / "pid.partial").rename(folder / "pid")
    end(signal.sigwait(asked))
sys.exit({status})
"""


def checkout(folder: Path, *, waits: bool = True, status: int | None = None) -> Path:
    """Lays out the scripts with a stand-in for Python in .venv."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(SCRIPTS, folder / "run_scripts")
    (folder / "bert_clinical").mkdir()
    for name in ("setup.py", "requirements.txt", "bert_clinical/__init__.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "biobert").mkdir()
    for name in ("bert_config.json", "vocab.txt"):
        (folder / "biobert" / name).touch()
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        PROGRAM.format(python=sys.executable, folder=str(folder), waits=waits, status=status)
    )
    python.chmod(0o755)
    pack_bundle(folder)
    (folder / "tools").mkdir()
    for name, code in TOOLS.items():
        (folder / "tools" / name).write_text(f"#!/usr/bin/env bash\n{code}\n")
        (folder / "tools" / name).chmod(0o755)
    return folder


def pack_bundle(folder: Path) -> None:
    """Makes a bundle of the checkout, in which install.sh finds a .venv that is there already."""
    bundle = folder / "run_scripts" / "bundle"
    with tarfile.open(bundle / "bert-clinical.tar.gz", "w:gz") as archive:
        archive.add(folder, "bert-clinical")
    shutil.copy(SCRIPTS / "stages.sh", bundle)
    (bundle / "bundle.env").write_text(
        f"PYTHON_VERSION={sys.version_info[0]}.{sys.version_info[1]}\n"
        f"MACHINE={platform.machine()}\nGLIBC_MINOR=5\nEXTRAS=\nSCISPACY_MODEL=\n"
    )
    files = sorted(path for path in bundle.iterdir() if path.is_file())
    (bundle / "SHA256SUMS").write_text(
        "".join(f"{sha256_of_file(path)}  ./{path.name}\n" for path in files)
    )


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    env |= {**VARIABLES[script], "PATH": f"{folder / 'tools'}:{os.environ['PATH']}"}
    return subprocess.Popen(
        [str(folder / "run_scripts" / script), *ARGUMENTS.get(script, ())], cwd=folder, text=True,
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def signalled(folder: Path, script: str, name: str) -> tuple[int, str]:
    """Sends a script a signal while its program runs; returns its status and what it said."""
    process = start(folder, script)
    wait_until((folder / "pid").exists, process)
    process.send_signal(signal.Signals[f"SIG{name}"])
    _, said = process.communicate(timeout=HANG_SECONDS)
    assert (folder / "told").read_text() == f"SIG{name}"
    # The script has waited for it.
    assert not Path(f"/proc/{(folder / 'pid').read_text()}").exists()
    assert len((folder / "programs").read_text().splitlines()) == 1
    return process.returncode, said


def test_every_script_is_in_the_table() -> None:
    scripts = {str(path.relative_to(SCRIPTS)) for path in SCRIPTS.rglob("*.sh")}
    assert set(VARIABLES) == scripts - SOURCED - WITHOUT_PROGRAM


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("script", VARIABLES)
def test_a_signal_reaches_the_program(tmp_path: Path, script: str, name: str) -> None:
    status, said = signalled(checkout(tmp_path / "checkout"), script, name)
    assert status == 128 + signal.Signals[f"SIG{name}"]
    assert said == ""


@pytest.mark.parametrize(("status", "expected"), [(7, 7), (0, 143)])
def test_the_status_is_the_programs(tmp_path: Path, status: int, expected: int) -> None:
    """A stage that ends well in spite of the signal is not followed by the next one."""
    folder = checkout(tmp_path / "checkout", status=status)
    assert signalled(folder, "run_clinical_bert.sh", "TERM")[0] == expected


def test_a_stage_that_fails_ends_the_script_with_its_status(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout", waits=False, status=7)
    process = start(folder, "run_clinical_bert.sh")
    process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 7
    assert (folder / "programs").read_text() == "-m data_prep.format_notes\n"


def test_no_program_is_started_in_another_way() -> None:
    """The table shows the first program of each script; this, the others."""
    started = re.compile(
        r'^\s*("\$(PYTHON|python)"|"\$bin/\w+"|"\$\{pip\[@\]\}"|\.venv/bin/python|run_scripts/\S+)'
    )
    for path in SCRIPTS.rglob("*.sh"):
        for line in path.read_text().splitlines():
            assert not started.match(line), f"{path.name}: {line}"
