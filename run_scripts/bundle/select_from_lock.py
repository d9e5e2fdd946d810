"""Prints the part of the locks that the project needs with some extras on one kind of machine.

    python select_from_lock.py --python-version=3.12 --machine=x86_64 --extras=beam,sql CHECKOUT

The answer is a requirements file with hashes and without markers, so that pip can fetch for a
machine unlike the one that it runs on. Who needs whom stands in the locks, written by uv.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from typing import NamedTuple

# pip's own copy: where pip runs, nothing else is needed.
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

PROJECT = "bert-clinical"
LOCKS = {
    "requirements.lock": {"beam", "sql"},
    "requirements-gpu.lock": {"gpu"},
}


class Locked(NamedTuple):
    """An entry of a lock."""

    requirement: Requirement
    hashes: tuple[str, ...]
    needed_by: frozenset[str]


def read_lock(path: Path) -> dict[str, list[Locked]]:
    """Returns the entries of each package: several where markers choose between versions."""
    found: dict[str, list[Locked]] = {}
    head, hashes, parents = "", [], set()

    def end_entry() -> None:
        if head:
            requirement = Requirement(head)
            entry = Locked(requirement, tuple(hashes), frozenset(parents))
            found.setdefault(canonicalize_name(requirement.name), []).append(entry)

    for line in path.read_text().splitlines():
        text = line.strip().rstrip("\\").strip()
        if not line.startswith(" "):
            end_entry()
            head, hashes, parents = "" if line.startswith("#") else text, [], set()
        elif text.startswith("--hash="):
            hashes.append(text)
        elif text.startswith("#"):
            name = text.lstrip("# ").removeprefix("via").split()
            if name and name[0] != "-c":
                parents.add(canonicalize_name(name[0]))
    end_entry()
    return found


def direct_requirements(setup_py: Path) -> dict[str, list[Requirement]]:
    """Returns what `setup.py` asks for, under "" without extras, and by extra."""
    for node in ast.walk(ast.parse(setup_py.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "setup":
            values = {keyword.arg: keyword.value for keyword in node.keywords}
            lines = {"": ast.literal_eval(values["install_requires"])}
            lines |= ast.literal_eval(values["extras_require"])
            return {extra: [Requirement(line) for line in found] for extra, found in lines.items()}
    raise ValueError(f"{setup_py}: calls no setup()")


def select(checkout: Path, extras: set[str], system: dict[str, str]) -> list[str]:
    """Returns a line `name==version --hash=...` for each package that is needed.

    Args:
      checkout: holds `setup.py` and the locks.
      extras: of gpu, beam and sql.
      system: values of markers, such as python_version.
    """
    direct = direct_requirements(checkout / "setup.py")
    selected: dict[str, str] = {}
    for name, offered in LOCKS.items():
        if not extras & offered and name != "requirements.lock":
            continue
        lock = read_lock(checkout / name)
        roots = [*direct[""], *(r for extra in sorted(extras & offered) for r in direct[extra])]
        needed = {canonicalize_name(requirement.name) for requirement in roots}
        while True:
            more = {
                package
                for package, entries in lock.items()
                if package not in needed and any(entry.needed_by & needed for entry in entries)
            }
            if not more:
                break
            needed |= more
        for package in needed & set(lock):
            for entry in lock[package]:
                marker = entry.requirement.marker
                if marker is None or marker.evaluate(system):
                    line = f"{package}{entry.requirement.specifier} {' '.join(entry.hashes)}"
                    if selected.setdefault(package, line).split()[0] != line.split()[0]:
                        raise ValueError(f"the locks disagree on {package}")
    return [selected[package] for package in sorted(selected)]


def main() -> int:
    """Prints the selection; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python-version", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--extras", default="")
    arguments = parser.parse_args()
    system = {
        "python_version": arguments.python_version,
        "python_full_version": f"{arguments.python_version}.99",
        "platform_machine": arguments.machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    extras = set(filter(None, arguments.extras.split(",")))
    sys.stdout.writelines(f"{line}\n" for line in select(arguments.checkout, extras, system))
    return 0


if __name__ == "__main__":
    sys.exit(main())
