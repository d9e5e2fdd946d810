"""Flags out of the fields of a settings class: default, help and bounds of each stand once.

@dataclass(frozen=True)
class Settings:
    max_seq_length: int = setting(128, "WordPieces in a sequence.", minimum=3)

settings_flags.define(values, Settings)
settings = settings_flags.read(values, Settings)

A flag that is `listed` takes several whole numbers, for as many settings, which `read_each` gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from absl import flags

from data_prep.common.errors import UsageError
from data_prep.common.program import ProgramFlags

Settings = TypeVar("Settings")

_KEY = "flag"
_TPU_STRINGS = ("tpu_name", "tpu_zone", "gcp_project", "master")
_TPU_FLAGS = ("use_tpu", *_TPU_STRINGS, "num_tpu_cores")


@dataclasses.dataclass(frozen=True)
class _Flag:
    help: str
    minimum: float | None
    maximum: float | None
    choices: Sequence[str] | None
    listed: bool


class _WholeNumbers(flags.ArgumentParser[tuple[int, ...]]):
    """Whole numbers with commas between."""

    syntactic_help = "a whole number, or several with commas between"

    def parse(self, argument: Any) -> tuple[int, ...]:
        """Returns the numbers; absl tells the user of a `ValueError`."""
        return tuple(map(flags.IntegerParser().parse, str(argument).split(",")))

    def flag_type(self) -> str:
        """Returns what `--help` calls the value."""
        return "integer, ..."


class _WithCommas(flags.ArgumentSerializer[tuple[int, ...]]):
    def serialize(self, value: tuple[int, ...]) -> str:
        return ",".join(map(str, value))


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | None = None,
    listed: bool = False,
) -> Any:
    """Returns a dataclass field that is also a flag of the field's name.

    Args:
      default: of the field and the flag; its type is the flag's (None: a string).
      help: what `--help` says.
      minimum: the smallest number.
      maximum: the largest number.
      choices: the values that a string can have.
      listed: the flag takes several whole numbers, comma-separated, for as many settings. They have
        no bounds here.
    """
    flag = _Flag(help, minimum, maximum, choices, listed)
    return dataclasses.field(default=default, metadata={_KEY: flag})


def define(values: ProgramFlags, settings: type, *names: str, **defaults: Any) -> None:
    """Defines flags of the fields that `setting` made.

    Args:
      values: where the flags are defined.
      settings: the dataclass.
      *names: which of its fields, in this order; all when none is named.
      **defaults: of flags in which a program differs from the class.
    """
    fields = {field.name: field for field in dataclasses.fields(settings) if _KEY in field.metadata}
    for name in names or fields:
        flag: _Flag = fields[name].metadata[_KEY]
        default = defaults.get(name, fields[name].default)
        bounds = {"lower_bound": flag.minimum, "upper_bound": flag.maximum, "flag_values": values}
        if flag.choices is not None:
            flags.DEFINE_enum(name, default, list(flag.choices), flag.help, flag_values=values)
        elif flag.listed:
            flags.DEFINE(
                _WholeNumbers(), name, str(default), flag.help, values, _WithCommas()
            )  # fmt: skip
        elif isinstance(default, bool):
            flags.DEFINE_boolean(name, default, flag.help, flag_values=values)
        elif isinstance(default, int):
            flags.DEFINE_integer(name, default, flag.help, **bounds)
        elif isinstance(default, float):
            flags.DEFINE_float(name, default, flag.help, **bounds)
        else:
            flags.DEFINE_string(name, default, flag.help, flag_values=values)


def read(values: ProgramFlags, settings: type[Settings], **others: Any) -> Settings:
    """Returns the settings that the flags say.

    Args:
      values: the parsed flags.
      settings: the dataclass.
      **others: fields that are no flags.
    """
    return settings(**_values(values, _fields(settings)), **others)


def read_each(values: ProgramFlags, settings: type[Settings]) -> list[Settings]:
    """Returns the settings that the flags say, of which the listed ones may say several.

    Args:
      values: the parsed flags.
      settings: the dataclass, at least one field of which is listed.

    Raises:
      UsageError: listed flags do not name as many numbers as one another.
    """
    fields = _fields(settings)
    found = _values(values, fields)
    listed = [name for name, flag in fields.items() if flag.listed]
    counts = [len(found[name]) for name in listed]
    if len(set(counts)) > 1:
        told = " and ".join(f"--{n} names {count}" for n, count in zip(listed, counts, strict=True))
        raise UsageError(f"{told}; expected as many, the first for the first and so on")
    return [
        settings(**{**found, **dict(zip(listed, numbers, strict=True))})
        for numbers in zip(*(found[name] for name in listed), strict=True)
    ]


def _fields(settings: type) -> dict[str, _Flag]:
    """Returns the flags among a dataclass's fields, by name."""
    fields = dataclasses.fields(settings)
    return {field.name: field.metadata[_KEY] for field in fields if _KEY in field.metadata}


def _values(values: ProgramFlags, names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name].value for name in names}


def define_tpu_flags(values: ProgramFlags) -> None:
    """Defines Google's flags for TPUs, so that a script that has them gets a clear answer."""
    flags.DEFINE_boolean(
        "use_tpu", False, "Refused: this program runs on CPUs and GPUs.", flag_values=values
    )
    for name in _TPU_STRINGS:
        flags.DEFINE_string(name, None, "Refused: belongs to TPUs.", flag_values=values)
    flags.DEFINE_integer("num_tpu_cores", None, "Refused: belongs to TPUs.", flag_values=values)


def refuse_tpu_flags(values: ProgramFlags) -> None:
    """Raises `UsageError` if one of `define_tpu_flags` is given."""
    for name in _TPU_FLAGS:
        if values[name].value:
            raise UsageError(
                f"--{name}: TPUs are not supported, this program runs on CPUs and GPUs; remove it"
            )
