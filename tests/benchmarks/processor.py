"""Names the processor that a benchmark runs on, since its figures hold for that kind alone."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_VECTORS = {
    "avx512_vnni": "AVX-512 with VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2 without AVX-512",
    "avx": "AVX",
    "asimd": "NEON",
}


def processor() -> str:
    """Returns the processor's name, the cores to be had, and the widest vectors it computes."""
    information = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.+)$", information, re.MULTILINE)
    flags = set(information.split())
    vectors = next((label for flag, label in _VECTORS.items() if flag in flags), "no AVX")
    cores = len(os.sched_getaffinity(0))
    return f"{name[1] if name else platform.machine()}, {cores} cores, {vectors}"
