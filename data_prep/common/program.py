"""What every program of the project shares: flags, exit statuses, and errors of one line.

A program is a module with `define_flags(values)`, `main(values)` and

    def cli() -> None:
        program.run(__doc__, define_flags, main)

Its information goes to standard output, its warnings and errors to standard error, so that after a
mistake standard error holds one line. No message of an unexpected exception is ever shown: it could
quote a note.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import math
import os
import signal
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from absl import flags

from data_prep.common import output_mode, unfinished, usage
from data_prep.common.errors import (
    EXIT_DATA_ERROR,
    EXIT_INTERRUPTED,
    Terminated,
    UsageError,
    UserError,
    internal_error_message,
    one_line,
    os_error_message,
    out_of_memory_message,
)
from data_prep.common.paths import is_utf8

_log = logging.getLogger(__name__)

_LARGEST_INTEGER = 1 << 63
_HELP = ("--help", "-help", "--helpfull", "--helpshort")
_EXAMPLE = "\nExample:\n"
_SECONDS_TO_TIDY_UP = 5.0
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class ProgramFlags(flags.FlagValues):
    """The flags of one program, in the order of their definition and under section headings.

    One object per program, rather than absl's global one, so that several programs can be imported
    in one process although they share flag names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_sections"] = []
        self.__dict__["_required"] = []

    def require(self, *names: str) -> None:
        """Has `parse` refuse a command line without these flags."""
        self.__dict__["_required"] += names

    def parse(self, name: str, arguments: Sequence[str]) -> None:
        """Parses a command line.

        Args:
          name: of the program.
          arguments: what follows it.

        Raises:
          UsageError: a flag is unknown or has a value that it cannot have, an argument belongs to
            no flag, or a flag that is needed is missing.
        """
        for place, argument in enumerate(arguments, 1):
            if not is_utf8(argument):
                raise UsageError(f"the argument at place {place} is not UTF-8; rename the file")
        try:
            stray = self([name, *arguments])[1:]
        except (flags.Error, ValueError) as error:
            raise UsageError(usage.message(error, self, arguments)) from None
        if stray:
            raise UsageError(
                f"found {len(stray)} argument(s) that belong to no flag, the first "
                f"{usage.place_of(stray[0], arguments)}; every value is given as --flag=value, in "
                "quotes if it holds blanks"
            )
        for name in self:
            value = self[name].value
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int) and not -_LARGEST_INTEGER <= number < _LARGEST_INTEGER:
                    raise UsageError(f"--{name}: expected a whole number of at most 64 bits")
        missing = [f"--{name}" for name in self.__dict__["_required"] if self[name].value is None]
        if missing:
            listed = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
            verb = "is" if len(missing) == 1 else "are"
            raise UsageError(f"{listed} {verb} missing; --help says what each is")

    def section(self, title: str) -> None:
        """Puts the flags defined from here on under `title` in the help."""
        self.__dict__["_sections"].append((title, len(list(self))))

    def help_text(self, module: str, description: str) -> str:
        """Returns the page that `--help` prints."""
        sections = {start: title for title, start in self.__dict__["_sections"]}
        description, _, example = description.partition(_EXAMPLE)
        lines = [description.strip(), "", f"Usage: python -m {module} --FLAG=VALUE ..."]
        for index, name in enumerate(self):
            if index in sections:
                lines += ["", sections[index] + ":"]
            flag = self[name]
            if flag.boolean:
                head = f"  --[no]{name}"
            else:
                head = f"  --{name}=<{flag.flag_type()}>"
            default = (
                "" if flag.default is None else f" (default: {flag.default_as_str.strip(chr(39))})"
            )
            lines.append(head + default)
            lines.append(
                textwrap.fill(flag.help, 98, initial_indent="      ", subsequent_indent="      ")
            )
        lines += ["", "A file of flags, one a line, can be given as --flagfile=PATH."]
        if example:
            lines += [_EXAMPLE.rstrip(), example.rstrip()]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns the value of every flag that decides what is made, by name; for records."""
        return {name: self[name].value for name in self if name not in ("help", output_mode.NAME)}


def run(
    description: str | None,
    define_flags: Callable[[ProgramFlags], None],
    main: Callable[[ProgramFlags], int | None],
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Parses the command line, runs `main` and ends the process with its exit status.

    SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 become `Terminated` in `main`, as SIGINT becomes
    KeyboardInterrupt; one that is ignored at the start, as `nohup` has it, stays so. What is tidied
    up then is not broken off by another that follows soon: systemd and SLURM send theirs to every
    process of a job, and a script hands them on once more.
    """
    _hear_signals()
    sys.exit(run_to_exit_status(description, define_flags, main, argv))


def ending_signals() -> list[signal.Signals]:
    """Returns the signals that ask a program to end, Ctrl-C and those that are ignored left out."""
    return [n for n in _ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]


def run_to_exit_status(
    description: str | None,
    define_flags: Callable[[ProgramFlags], None],
    main: Callable[[ProgramFlags], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a program as `run` does, but returns the exit status. Tests call this one.

    Args:
      description: the program's docstring; heads the help.
      define_flags: defines the program's flags on the object that it is given.
      main: the program; returns an exit status or None for 0.
      argv: the command line without the program's name; `sys.argv[1:]` when None.
    """
    module = (
        main.__globals__["__spec__"].name if main.__globals__.get("__spec__") else main.__module__
    )
    name = module.rpartition(".")[2]
    arguments = list(sys.argv[1:] if argv is None else argv)
    values = ProgramFlags()
    define_flags(values)
    output_mode.define(values)
    if "help" not in values:
        flags.DEFINE_boolean("help", False, "Print this page.", flag_values=values)
    _open_standard_streams()
    _set_up_output()
    try:
        if any(argument in _HELP for argument in arguments):
            _say(values.help_text(module, description or ""))
            return 0
        if "--version" in arguments:
            _say(f"bert-clinical {importlib.metadata.version('bert-clinical')}")
            return 0
        values.parse(name, arguments)
        with output_mode.made_with(values[output_mode.NAME].value):
            status = _answer(main, values)
        return 0 if status is None else status
    except UserError as error:
        return _fail(name, str(error), error.exit_status)
    except KeyboardInterrupt:
        # Where the signal came inside `exec` of a string (of a dataclass, of a compiler), Python
        # remembers it and would end by SIGINT at its exit. The next `exec` makes it forget.
        exec("")  # noqa: S102
        return _fail(name, "interrupted", EXIT_INTERRUPTED)
    except Terminated as error:
        return _fail(name, "terminated", error.exit_status)
    except BrokenPipeError:
        # The reader of standard output went away (`| head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DATA_ERROR
    except OSError as error:
        return _fail(name, os_error_message(error), EXIT_DATA_ERROR)
    except MemoryError:
        return _fail(name, out_of_memory_message(list(values)), EXIT_DATA_ERROR)
    except Exception as error:  # noqa: BLE001
        return _fail(name, internal_error_message(error), EXIT_DATA_ERROR)
    finally:
        unfinished.discard_all()


class _Handler(logging.StreamHandler):
    """Says nothing of a line that cannot be written; logging would print its arguments.

    Only a reader that went away ends the program.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise


def _open_standard_streams() -> None:
    """Opens those of the standard streams that the program was started without.

    Else the next file to be opened would get the number of one, and whatever is written there.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _set_up_output() -> None:
    """Information to standard output, warnings and errors of the project to standard error."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Nothing that is to be said may fail for a letter that cannot be written there.
            stream.reconfigure(errors="backslashreplace")
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    out = _Handler(sys.stdout)
    out.addFilter(lambda record: record.levelno < logging.WARNING)
    err = _Handler(sys.stderr)
    err.setLevel(logging.WARNING)
    root.addHandler(out)
    root.addHandler(err)
    root.setLevel(logging.WARNING)
    for package in ("bert_clinical", "data_prep", "__main__"):
        logging.getLogger(package).setLevel(logging.INFO)


def show_times() -> None:
    """Puts the time in front of the lines of the log, where no terminal shows them."""
    formatter = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler) and not handler.stream.isatty():
            handler.setFormatter(formatter)


@dataclass
class _Ending:
    """What a signal's handler has raised, and when."""

    exception: BaseException | None = None
    since: float = -math.inf

    def is_under_way(self) -> bool:
        return time.monotonic() - self.since < _SECONDS_TO_TIDY_UP


_ending = _Ending()


def end_by(exception: BaseException) -> NoReturn:
    """Raises an exception that ends the program, out of the handler of a signal.

    It may come anywhere in a library's code. NumPy, for one, makes a TypeError of whatever comes
    while it compares structured arrays; the program ends by this exception all the same.
    """
    global _ending
    _ending = _Ending(exception, time.monotonic())
    raise exception


def _answer(main: Callable[[ProgramFlags], int | None], values: ProgramFlags) -> int | None:
    """Calls `main`; an end by a signal stays one, whatever a library has made of it."""
    global _ending
    _ending = _Ending()
    try:
        return main(values)
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        if _ending.exception is not None and _ending.is_under_way():
            raise _ending.exception from error
        raise


def _hear_signals() -> None:
    def end(number: int, _: object) -> None:
        if not _ending.is_under_way():
            end_by(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))

    numbers = ending_signals()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    for number in numbers:
        signal.signal(number, end)


def _say(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, error.strerror, "standard output") from None


def _fail(name: str, message: str, status: int) -> int:
    # Where it cannot be written, the status has to do.
    with contextlib.suppress(OSError):
        print(f"{name}: error: {one_line(message)}", file=sys.stderr, flush=True)  # noqa: T201
    return status
