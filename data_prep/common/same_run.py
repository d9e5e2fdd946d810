"""Whether an earlier run in the same folder was this one: the same flags, inputs and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.common.errors import UserError
from data_prep.common.json_files import ANY_NAME
from data_prep.common.paths import listed

SHAPE = {
    "flags": {ANY_NAME: (str, int, float, bool, type(None))},
    "versions": {ANY_NAME: str},
    "inputs": [{"name": str}],
}
"""Of what is recorded of a run, see `json_files.require_shape`."""

_SHOWN = 6
_LONGEST_SHOWN = 100


def require_same_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], found: str, advice: str
) -> None:
    """Compares the settings of two runs, both of `SHAPE`.

    Raises:
      UserError: they differ; says in what.
    """
    differences = []
    for kind, prefix in (("flags", "--"), ("versions", "the version of ")):
        old, new = before.get(kind, {}), now[kind]
        differences += [
            f"{prefix}{_shown(name)} was {_shown(old.get(name))}, is {_shown(new.get(name))}"
            for name in [*old, *(name for name in new if name not in old)]
            if old.get(name) != new.get(name)
        ]
    if before.get("inputs") != now["inputs"]:
        old_names, new_names = (
            listed(_shown(i.get("name")) for i in inputs)
            for inputs in (before.get("inputs", []), now["inputs"])
        )
        changed = "has changed" if old_names == new_names else f"was {old_names}, is {new_names}"
        differences.append(f"the input {changed}")
    if differences:
        more = len(differences) - _SHOWN
        shown = [*differences[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise UserError(f"{found}: {'; '.join(shown)}; {advice}")


def _shown(value: Any) -> str:
    return str(value)[:_LONGEST_SHOWN]
