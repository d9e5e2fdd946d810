"""Which stored tensor is which variable of a model, in checkpoints and in transformers folders.

Every tensor is accounted for: what is missing, has another shape or is not understood is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_clinical.nn.variables import HEADS, is_step_like, slot_owner
from bert_clinical.weights.checkpoint import tensor_shapes
from bert_clinical.weights.transformers_names import (
    BUFFERS,
    TIED_TO,
    modern_names,
    transformers_name,
)
from data_prep.common.errors import UserError

POOLER = "bert/pooler"

_TASK_HEADS = ("cls.", "classifier.", "qa_outputs.", "lm_head.")
"""Beginnings of the names of heads in transformers, which an encoder can do without."""


@dataclass(frozen=True)
class Match:
    """How the tensors of a checkpoint meet the variables that are wanted.

    Attributes:
      found: wanted variables that the checkpoint holds in the right shape.
      missing: wanted variables that it does not hold.
      misshapen: (name, shape found, shape expected).
      slots_ignored: an optimizer's moments of wanted variables.
      step_like: `global_step` and running powers of an optimizer's betas.
      unknown: everything else.
      missing_groups: optional groups (a head each) of which no variable is there.
    """

    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    slots_ignored: tuple[str, ...] = ()
    step_like: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    missing_groups: tuple[str, ...] = ()


def compare_variables(
    wanted: Mapping[str, tuple[int, ...]],
    prefix: str,
    *,
    optional_groups: Sequence[str] = HEADS,
) -> Match:
    """Tells what each tensor of a checkpoint is to a model; refuses nothing.

    Args:
      wanted: the model's variables by name with their shapes.
      prefix: the checkpoint.
      optional_groups: beginnings of names that may be absent as a whole.
    """
    shapes = tensor_shapes(prefix)
    missing = tuple(name for name in wanted if name not in shapes)
    misshapen = tuple(
        (name, shapes[name], tuple(shape))
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != tuple(shape)
    )
    wrong = {name for name, _, _ in misshapen}
    others = [name for name in shapes if name not in wanted]
    slots = tuple(name for name in others if slot_owner(name) in wanted)
    steps = tuple(name for name in others if is_step_like(name))
    missing_groups = tuple(
        group
        for group in optional_groups
        if (members := [name for name in wanted if name.startswith(f"{group}/")])
        and all(name in missing for name in members)
    )
    return Match(
        found=tuple(name for name in wanted if name in shapes and name not in wrong),
        missing=missing,
        misshapen=misshapen,
        slots_ignored=slots,
        step_like=steps,
        unknown=tuple(name for name in others if name not in slots and name not in steps),
        missing_groups=missing_groups,
    )


def match_variables(
    wanted: Mapping[str, tuple[int, ...]],
    prefix: str,
    *,
    optional_groups: Sequence[str] = HEADS,
) -> Match:
    """Returns what a checkpoint holds for a model, and fails on whatever does not fit.

    Raises:
      UserError: a tensor has another shape, is missing though its group is not absent as a whole,
        or is not understood.

    Differs: Google's `init_from_checkpoint` takes what it finds and leaves the rest at random.
    """
    match = compare_variables(wanted, prefix, optional_groups=optional_groups)
    require_match(match, prefix)
    return match


def require_match(match: Match, prefix: str) -> None:
    """Raises the `UserError` of `match_variables` if something in `match` does not fit."""
    if any(name.startswith("_CHECKPOINTABLE_OBJECT_GRAPH") for name in match.unknown):
        raise UserError(
            f"{prefix}: found an object-based checkpoint of TensorFlow 2; expected a "
            "name-based one as Google's BERT programs and run_pretraining write"
        )
    if match.misshapen:
        name, found, expected = match.misshapen[0]
        raise UserError(
            f"{prefix}: {name} has shape {list(found)}, expected {list(expected)} by the config"
            f"{_and_more(match.misshapen)}; give the bert_config.json that belongs to it"
        )
    missing = [
        name
        for name in match.missing
        if not any(name.startswith(f"{group}/") for group in match.missing_groups)
    ]
    if missing:
        raise UserError(
            f"{prefix}: holds no {missing[0]}{_and_more(missing)}; expected every variable of the "
            "encoder, and of each head all or none"
        )
    if match.unknown:
        raise UserError(
            f"{prefix}: {match.unknown[0]} is no variable of this model{_and_more(match.unknown)}; "
            "expected those of a BERT pretraining checkpoint with the config's number of layers"
        )


@dataclass(frozen=True)
class FolderMatch:
    """How the weights of a transformers folder meet the variables that are wanted.

    Attributes:
      names: which variable, or which extra weight, each wanted one is, by its name in the files.
      missing_groups: a head or the pooler, if no variable of it is there.
      unused: names in the files of other heads' weights.
    """

    names: dict[str, str]
    missing_groups: tuple[str, ...]
    unused: tuple[str, ...]


def match_folder(
    wanted: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, tuple[int, ...]],
    folder: Path,
    *,
    extra_shapes: Mapping[str, tuple[int, ...]] | None = None,
    allow_other_heads: bool = False,
) -> FolderMatch:
    """Finds the weights of a transformers folder, and fails on whatever does not fit.

    Args:
      wanted: the model's variables by Google's names with their shapes.
      shapes: those of the files, by the names there.
      folder: for errors.
      extra_shapes: further weights that are wanted, by their names in transformers.
      allow_other_heads: leave out weights of heads that are not wanted rather than refuse them.

    Raises:
      UserError: a weight is missing though its group is not absent as a whole, has another shape,
        or is not understood.
    """
    expected = {name: (name, tuple(shape)) for name, shape in (extra_shapes or {}).items()}
    for variable, shape in wanted.items():
        new = transformers_name(variable)
        expected[new.name] = (variable, tuple(shape[::-1] if new.transposed else shape))
    modern = modern_names(shapes)
    present = set(modern.values())
    missing = {name for new, (name, _) in expected.items() if new not in present}
    missing_groups = tuple(
        group
        for group in (*HEADS, POOLER)
        if (members := [name for name in wanted if name.startswith(f"{group}/")])
        and all(name in missing for name in members)
    )
    absent = tuple(f"{group}/" for group in missing_groups)
    lost = [
        new
        for new, (name, _) in expected.items()
        if new not in present and not name.startswith(absent)
    ]
    if lost:
        raise UserError(
            f"{folder}: holds no {lost[0]}{_and_more(lost)}; expected every weight that "
            "config.json announces"
        )
    files_name = {new: file_name for file_name, new in modern.items()}
    for key, (_, shape) in expected.items():
        if key in present and tuple(shapes[files_name[key]]) != shape:
            raise UserError(
                f"{folder}: {files_name[key]} has shape {list(shapes[files_name[key]])}, expected "
                f"{list(shape)} by config.json"
            )
    names, unused, unknown = {}, [], []
    for file_name, new_name in modern.items():
        if new_name in expected:
            names[file_name] = expected[new_name][0]
        elif new_name in TIED_TO or new_name in BUFFERS:
            continue
        elif allow_other_heads and new_name.startswith(_TASK_HEADS):
            unused.append(file_name)
        else:
            unknown.append(file_name)
    if unknown:
        kind = "with or without a head" if allow_other_heads else "without a head for another task"
        raise UserError(
            f"{folder}: {unknown[0]} (of {len(unknown)} such) is no weight of a BERT; expected one "
            f"{kind}"
        )
    return FolderMatch(names, missing_groups, tuple(unused))


def _and_more(names: Sequence[Any]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
