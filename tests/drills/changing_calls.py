"""The calls of Linux that change a file, and which file a call changes."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

_CALLS = {
    # name: number on x86_64, on aarch64, what it changes: the place of a descriptor or of a path,
    # a path after a folder's descriptor, or two of them.
    "write": (1, 64, "descriptor"),
    "pwrite64": (18, 68, "descriptor"),
    "writev": (20, 66, "descriptor"),
    "pwritev": (296, 69, "descriptor"),
    "pwritev2": (328, 287, "descriptor"),
    "ftruncate": (77, 46, "descriptor"),
    "fallocate": (285, 47, "descriptor"),
    "fchmod": (91, 52, "descriptor"),
    "sendfile": (40, 71, "descriptor"),
    "copy_file_range": (326, 285, "third"),
    "splice": (275, 76, "third"),
    "open": (2, None, "path"),
    "creat": (85, None, "path"),
    "truncate": (76, 45, "path"),
    "rename": (82, None, "path"),
    "link": (86, None, "path"),
    "symlink": (88, None, "second"),
    "unlink": (87, None, "path"),
    "rmdir": (84, None, "path"),
    "mkdir": (83, None, "path"),
    "chmod": (90, None, "path"),
    "openat": (257, 56, "at"),
    "renameat": (264, 38, "at"),
    "renameat2": (316, 276, "at"),
    "linkat": (265, 37, "at"),
    "symlinkat": (266, 36, "second at"),
    "unlinkat": (263, 35, "at"),
    "mkdirat": (258, 34, "at"),
    "fchmodat": (268, 53, "at"),
    "fchmodat2": (452, 452, "at"),
}
OPENING = {"open": 1, "openat": 2}
"""The argument that says how; only what makes or empties a file changes one."""

FILLING = (
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "fallocate", "sendfile",
    "copy_file_range", "splice", "open", "openat", "creat", "mkdir", "mkdirat", "symlink",
    "symlinkat", "link", "linkat",
)  # fmt: skip
"""What needs space on the disk."""

MACHINE = platform.machine()
_COLUMN = {"x86_64": 0, "aarch64": 1}[MACHINE]
_KINDS = {row[_COLUMN]: row[2] for row in _CALLS.values() if row[_COLUMN] is not None}
NAMES = {row[_COLUMN]: name for name, row in _CALLS.items() if row[_COLUMN] is not None}

_AT_FDCWD = -100


def concerned(thread: int, call: int, arguments: list[int]) -> str | None:
    """Returns the path of the file that a call changes, None where it has none."""
    kind = _KINDS[call]
    try:
        if kind in ("descriptor", "third"):
            descriptor = arguments[2 if kind == "third" else 0]
            return str(Path(f"/proc/{thread}/fd/{descriptor & 0xFFFFFFFF}").readlink())
        first = 1 if kind.startswith("second") else 0
        base = Path(f"/proc/{thread}/cwd")
        if kind.endswith("at"):
            descriptor = ctypes.c_int32(arguments[first] & 0xFFFFFFFF).value
            if descriptor != _AT_FDCWD:
                base = Path(f"/proc/{thread}/fd/{descriptor}")
            first += 1
        path = _string_at(thread, arguments[first])
        return os.path.normpath(base.readlink() / path)
    except (FileNotFoundError, ProcessLookupError):
        return None


def _string_at(thread: int, address: int) -> str:
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        found = b""
        while b"\0" not in found:
            memory.seek(address + len(found))
            # Not across the end of a page: what follows it may not be there.
            found += memory.read(4096 - (address + len(found)) % 4096)
    return os.fsdecode(found.partition(b"\0")[0])
