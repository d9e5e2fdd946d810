"""Which files a flag such as --input_file means: the one owner for every program.

A path, a glob or a folder, and several with commas between them. A path that exists is that path,
whatever signs it holds. A glob or folder passes over what this project lays beside data.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from data_prep.common import contents, files
from data_prep.common.errors import UsageError, UserError
from data_prep.common.own_files import is_own
from data_prep.common.paths import is_utf8, listed, require_readable_file

_log = logging.getLogger(__name__)

_MOST_COMMAS = 16
"""In one path; so many parts of a list are tried together."""

_HEAD_BYTES = 4096


def find_local_files(
    patterns: str, flag: str, *, keep_empty: bool = False, once: bool = False
) -> list[Path]:
    """Returns the files of this machine that paths, globs and folders name; see `find_files`."""
    found = find_files(patterns, flag, keep_empty=keep_empty, once=once, here=True)
    return [Path(path) for path in found]


def find_files(
    patterns: str, flag: str, *, keep_empty: bool = False, once: bool = False, here: bool = False
) -> list[str]:
    """Returns the files that comma-separated paths, globs and folders name, each one's sorted.

    What was passed over is said, and so is a file that is named twice.

    Args:
      patterns: as the user gave them.
      flag: for messages.
      keep_empty: whether an empty file is the caller's to judge; else it is passed over.
      once: refuse a file that is named twice; else it is read twice, as Google's programs do.
      here: refuse paths with a scheme, such as gs://.

    Raises:
      UserError: a path or glob names nothing, all that it names is empty or none of the data, or
        a file is named twice that must not be.
    """
    found: list[str] = []
    own: list[str] = []
    for names, is_path in _named(patterns, flag, here):
        for name in names:
            (found if is_path or not _is_own(name) else own).append(name)
    if own:
        _log.info(
            "--%s: passed over %d file(s) or folder(s) that this project lays beside data: %s",
            flag, len(own), listed(own),
        )  # fmt: skip
    strange = [name for name in found if not is_utf8(name)]
    if strange:
        raise UserError(f"--{flag}: {strange[0]!a} is not named in UTF-8; rename the file")
    if not found:
        raise UserError(
            f"--{flag}: {patterns} names {len(own)} file(s), all of them laid beside data by this "
            "project; name the data"
        )
    for name in found:
        if not files.is_remote(name):
            require_readable_file(name, flag)
    _judge_repeated(found, flag, once)
    return found if keep_empty else _without_empty(found, flag)


def _named(patterns: str, flag: str, here: bool) -> Iterator[tuple[list[str], bool]]:
    """Yields what each path, glob or folder names, and whether it was a path."""
    if "," in patterns and _is_file(patterns):
        yield [patterns], True
        return
    parts = patterns.split(",")
    start = 0
    while start < len(parts):
        if not parts[start].strip():
            raise UsageError(f"--{flag}: an empty path stands between two commas; remove it")
        if here and files.is_remote(parts[start].strip()):
            raise UsageError(
                f"--{flag}: {parts[start].strip()} is not on this machine; only --runner reads it"
            )
        for end in range(start + 1, min(len(parts), start + _MOST_COMMAS) + 1):
            names, is_path = _names_of(",".join(parts[start:end]))
            if names:
                break
        else:
            _fail(parts[start].strip(), flag)
        yield names, is_path
        start = end


def _names_of(pattern: str) -> tuple[list[str], bool]:
    """Returns what one path, glob or folder names, and whether it is a path."""
    for name in dict.fromkeys((pattern, pattern.strip())):
        if _is_file(name):
            return [name], True
    pattern = pattern.strip()
    if files.is_remote(pattern):
        return files.remote_glob(f"{pattern}*" if pattern.endswith("/") else pattern), False
    if os.path.isdir(pattern):  # noqa: PTH112
        return sorted(glob.glob(os.path.join(glob.escape(pattern), "*"))), False  # noqa: PTH118
    return (sorted(glob.glob(_glob_of(pattern))) if glob.has_magic(pattern) else []), False


def _glob_of(pattern: str) -> str:
    """Returns a glob in which a folder that exists is that folder, whatever signs it holds."""
    end = len(pattern)
    while (end := pattern.rfind("/", 0, end)) > 0:
        folder = pattern[:end]
        if glob.has_magic(folder) and os.path.isdir(folder):  # noqa: PTH112
            return glob.escape(folder) + pattern[end:]
    return pattern


def _fail(pattern: str, flag: str) -> None:
    if files.is_remote(pattern) or glob.has_magic(pattern):
        raise UserError(f"--{flag}: no file matches {pattern}; check the path")
    if os.path.isdir(pattern):  # noqa: PTH112
        raise UserError(f"--{flag}: {pattern} is a folder without files; check the path")
    require_readable_file(pattern, flag)


def _is_file(path: str) -> bool:
    if not files.is_remote(path):
        return os.path.exists(path) and not os.path.isdir(path)  # noqa: PTH110, PTH112
    return not glob.has_magic(path) and files.size(path) is not None


def _is_own(path: str) -> bool:
    if not files.is_remote(path) and not os.path.isfile(path):  # noqa: PTH113
        return is_own(path, b"", _is_file)
    try:
        with files.open_binary(path) as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        # It is named again where it is opened for good.
        head = b""
    return is_own(path, head, _is_file)


def _judge_repeated(found: list[str], flag: str, once: bool) -> None:
    seen: set[str] = set()
    repeated = []
    for name in found:
        place = name if files.is_remote(name) else os.path.realpath(name)
        if place in seen:
            repeated.append(name)
        seen.add(place)
    if repeated and once:
        raise UserError(
            f"--{flag}: {listed(repeated)} is named twice and would be read twice; name it once"
        )
    if repeated:
        _log.warning(
            "--%s: %d file(s) are named again and are read as often as they are named: %s",
            flag, len(repeated), listed(repeated),
        )  # fmt: skip


def _without_empty(found: list[str], flag: str) -> list[str]:
    full: list[str] = []
    empty: list[str] = []
    for name in found:
        (empty if contents.is_empty(name, files.open_binary) else full).append(name)
    if not full:
        raise UserError(
            f"--{flag}: {listed(empty)}: {'the file is' if len(empty) == 1 else 'all are'} empty; "
            "expected data in at least one"
        )
    if empty:
        _log.info("--%s: passed over %d empty file(s): %s", flag, len(empty), listed(empty))
    return full
