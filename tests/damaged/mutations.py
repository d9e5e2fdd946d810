"""What happens to files: bytes that change, go and come, and JSON values of another type."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

# Longer ones Python refuses to read.
_HUGE = int("9" * 4000)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Returns the bytes of a file after one to three things that happen to bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_BYTES)(content, rng)
    return content


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """Returns a JSON file in which a value is another one, or whose bytes are damaged."""
    if rng.random() < 0.3:
        return damaged(content, rng)
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2))):
        value = _changed(value, rng)
    text = json.dumps(value)
    if rng.random() < 0.1:
        text = text.replace('"PLACE"', rng.choice(_ONLY_AS_TEXT))
    return text.encode(errors="surrogatepass")


def _place(content: bytes, rng: random.Random) -> int:
    # The heads and ends of files say most about them.
    near = min(len(content), 200)
    start = rng.choice((0, 0, max(0, len(content) - near)))
    return rng.randrange(start, (len(content) if rng.random() < 0.5 else start + near) + 1)


def _flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return b"\0"
    place = min(_place(content, rng), len(content) - 1)
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _remove(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.choice((1, 3, 8, 100)) :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    new = rng.choice((
        rng.randbytes(rng.choice((1, 4, 40))), b"\0" * 8, b"\xff" * 8, b'"', b"\n", b"\r\n", b",",
        b"\t", b"\xe2\x80\xa8", b"\xed\xa0\x80", content[:50], b"9" * 10_000, b"[" * 100_000,
    ))  # fmt: skip
    return content[:place] + new + content[place:]


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    new = rng.choice((b"\0", b"\xff", rng.randbytes(1))) * rng.choice((1, 2, 8, 512))
    return content[:place] + new + content[place + len(new) :]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    place, size = _place(content, rng), rng.choice((10, 1000))
    return content[:place] + content[place : place + size] * 2 + content[place + size :]


_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _cut, _remove, _insert, _overwrite, _repeat,
)  # fmt: skip

_VALUES = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**60, 2**63, 2**64, -(2**63), _HUGE, 0.5, 1e308, -1.5,
    float("nan"), float("inf"), "", "x", "x" * 1000, "\ud800", "\0", "../x", "é", [], [1], ["x"],
    [[]], {}, {"x": 1}, {"": None}, [None] * 1000, "PLACE",
)  # fmt: skip
_ONLY_AS_TEXT = ("9" * 10_000, "[" * 100_000 + "]" * 100_000, "1e999", "-", '{"a":1,"a":2}')


def _changed(value: Any, rng: random.Random) -> Any:
    """Returns a copy in which something within it is another value, gone, or one more."""
    if rng.random() < 0.05 or not isinstance(value, dict | list) or not value:
        return rng.choice(_VALUES)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        changed = rng.choice(([], [value[place]] * 2, [_changed(value[place], rng)]))
        return [*value[:place], *changed, *value[place + 1 :]]
    key = rng.choice(sorted(value))
    others = {name: item for name, item in value.items() if name != key}
    kind = rng.random()
    if kind < 0.1:
        return others
    if kind < 0.2:
        return {**others, rng.choice(("x", "", key + " ", key.upper())): value[key]}
    return {**value, key: _changed(value[key], rng)}
