"""Finds golden files by name; `golden/README.md` says where they come from."""

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
SHARED_NOTES = Path(__file__).parents[2] / "shared" / "notes" / "aci_bench_notes.csv"


def golden(name: str) -> Path:
    """Returns the one path below `tests/golden` that ends in `name`, a file or a folder."""
    found = sorted({path for path in GOLDEN.rglob("*") if path.as_posix().endswith("/" + name)})
    if len(found) != 1:
        raise FileNotFoundError(f"{len(found)} golden files end in {name}; expected one")
    return found[0]
