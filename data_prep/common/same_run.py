"""Whether an earlier run in the same folder was this one: the same flags, inputs and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.common.errors import UserError
from data_prep.common.paths import listed


def require_same_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], found: str, advice: str
) -> None:
    """Compares the settings of two runs.

    Raises:
      UserError: they differ; says in what.
    """
    differences = []
    for kind, prefix in (("flags", "--"), ("versions", "the version of ")):
        old, new = before.get(kind, {}), now[kind]
        differences += [
            f"{prefix}{name} was {old.get(name)}, is {new.get(name)}"
            for name in [*old, *(name for name in new if name not in old)]
            if old.get(name) != new.get(name)
        ]
    if before.get("inputs") != now["inputs"]:
        old_names, new_names = (
            listed(str(i.get("name")) for i in inputs)
            for inputs in (before.get("inputs", []), now["inputs"])
        )
        changed = "has changed" if old_names == new_names else f"was {old_names}, is {new_names}"
        differences.append(f"the input {changed}")
    if differences:
        raise UserError(f"{found}: {'; '.join(differences)}; {advice}")
