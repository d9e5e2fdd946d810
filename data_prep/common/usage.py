"""What is wrong with a command line, in words of ours: what stands on it may be a note's.

A value with blanks and without quotes falls apart into arguments, and a file of notes may be named
as one of flags. So an argument is called by its place, and only names of flags are repeated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from absl import flags

_HELP = "--help lists the flags"
_NAMED_BY_ABSL = re.compile(r"(?:flag --?|flag value for --|^--?(?:no)?)(\w+)")
# Words do not look so.
_MUST_BE_A_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")


def message(error: Exception, values: flags.FlagValues, arguments: Sequence[str]) -> str:
    """Returns one line for what absl found wrong.

    Args:
      error: absl's.
      values: the flags that there are.
      arguments: of the command line.
    """
    if isinstance(error, flags.CantOpenFlagFileError):
        return "--flagfile: the file cannot be opened; check the path"
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown(error.flagname, values, arguments)
    # "flag --count=many: invalid literal", "Missing value for flag --count"
    found = _NAMED_BY_ABSL.search(str(error))
    if found is None or found[1] not in values:
        return f"{_of_flagfile(arguments)}a flag has a value that it cannot have; {_HELP}"
    name = found[1]
    return f"--{name}: expected {_expected(values[name])}, found none or another value; {_HELP}"


def place_of(argument: str, arguments: Sequence[str]) -> str:
    """Returns where an argument stands."""
    if argument in arguments:
        return f"at place {arguments.index(argument) + 1}"
    return "a line of --flagfile"


def _unknown(name: str, values: flags.FlagValues, arguments: Sequence[str]) -> str:
    heads = [argument.lstrip("-").partition("=")[0] for argument in arguments]
    is_here = name in heads and arguments[heads.index(name)].startswith("-")
    where = f"at place {heads.index(name) + 1}" if is_here else "on a line of --flagfile"
    near = difflib.get_close_matches(name, [*values, *(f"no{name}" for name in values)], 1, 0.75)
    if near:
        return f"--{name} {where} is no flag of this program; did you mean --{near[0]}? {_HELP}"
    shown = f"--{name}" if is_here and _MUST_BE_A_NAME.fullmatch(name) else "what stands"
    return f"{shown} {where} is no flag of this program; expected --flag=value; {_HELP}"


def _of_flagfile(arguments: Sequence[str]) -> str:
    given = any(argument.lstrip("-").startswith("flagfile") for argument in arguments)
    return "--flagfile: expected text with --flag=value on each line; " if given else ""


def _expected(flag: flags.Flag) -> str:
    choices = getattr(flag.parser, "enum_values", None)
    if choices is not None:
        return f"one of {', '.join(choices)}"
    if flag.boolean:
        return "true or false"
    return flag.parser.syntactic_help or "a value"
