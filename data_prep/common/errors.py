"""Errors that a user sees as one line, and the exit statuses that go with them."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from pathlib import Path

EXIT_DATA_ERROR = 1
EXIT_USAGE_ERROR = 2
EXIT_INTERRUPTED = 130

_LESS_MEMORY = "give fewer workers or smaller batches, or use a machine with more memory"
_FLAGS_OF_MEMORY = (
    "num_workers",
    "buffer_mb",
    "batch_size",
    "train_batch_size",
    "eval_batch_size",
    "predict_batch_size",
    "max_seq_length",
)


class UserError(Exception):
    """The input or the data is at fault: shown as one line, exit status 1.

    The message says what was found, what was expected and what to do. It never quotes a note.
    """

    exit_status = EXIT_DATA_ERROR


class UsageError(UserError):
    """The command line is at fault: shown as one line, exit status 2."""

    exit_status = EXIT_USAGE_ERROR


class Terminated(BaseException):
    """A signal asks for an end: what is half done is tidied up as at Ctrl-C.

    Args:
      number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


def os_error_message(error: OSError) -> str:
    """Returns one line for a failed system call, with the file it concerns and what to do."""
    where = error.filename2 or error.filename
    place = f"{where}: " if where is not None else ""
    advice = {
        errno.ENOSPC: "; free some space and run the same command again",
        errno.EDQUOT: "; free some space and run the same command again",
        errno.ENOENT: "; check the path",
        errno.EACCES: "; check who may read or write there",
        errno.EPERM: "; check who may read or write there",
        errno.EROFS: "; choose an output that can be written",
        errno.ENAMETOOLONG: "; choose a shorter name",
        errno.EFBIG: "; raise the limit on the size of files (ulimit -f)",
        errno.ENOMEM: f"; {_LESS_MEMORY}",
    }.get(error.errno or 0, "")
    return f"{place}{error.strerror or type(error).__name__}{advice}"


def out_of_memory_message(flags: Sequence[str] = ()) -> str:
    """Returns one line that says which of a program's flags ask for less memory."""
    fitting = [f"--{name}" for name in flags if name in _FLAGS_OF_MEMORY]
    if not fitting:
        return f"out of memory; {_LESS_MEMORY}"
    return f"out of memory; lower {', '.join(fitting)}, or use a machine with more memory"


def internal_error_message(error: Exception) -> str:
    """Returns one line that says where an unexpected exception came from, without its message."""
    if isinstance(error, MemoryError):
        return out_of_memory_message()
    frames = traceback.extract_tb(error.__traceback__)
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:])
    return (
        f"unexpected {type(error).__name__} ({places}); its message is withheld, as it could quote "
        "a note; please report this line"
    )


def one_line(text: str) -> str:
    """Returns `text` on a single line."""
    return " ".join(text.split())
