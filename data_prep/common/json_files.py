"""JSON files that somebody else may have written or damaged: one line says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from data_prep.common.errors import UserError, os_error_message

_AGAIN = "copy or download it again"

ANY_NAME = "*"
"""In a shape: every member that is not named."""

_LARGEST_INTEGER = 1 << 63
"""Where a shape asks for a whole number: others overflow somewhere."""

_MOST_DIGITS = 40
"""transformers writes a number of 31 where it means none; Python itself takes thousands."""

_KINDS = {
    dict: "an object", list: "a list", str: "a string", int: "a whole number", float: "a number",
    bool: "true or false", NoneType: "null",
}  # fmt: skip


def read_json_object(path: Path, *, advice: str = _AGAIN) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Args:
      path: the file.
      advice: what to do if it is damaged.

    Raises:
      UserError: the file is missing, damaged or holds something else; names it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(os_error_message(error)) from None
    return parse_json_object(content, str(path), advice=advice)


def parse_json_object(content: bytes, path: str, *, advice: str = _AGAIN) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Args:
      content: UTF-8 text of the file.
      path: of the file, for the message.
      advice: what to do if it is damaged.

    Raises:
      UserError: broken JSON, or something else than an object; names the file.
    """
    try:
        # Not the text itself, whose decoding Python would guess from its first bytes.
        value = json.loads(content.decode("utf-8"), parse_int=_integer)
        if b"\\u" in content:
            # Half a character, which can stand in JSON but be written nowhere.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise UserError(f"{path}: JSON nested too deeply; {advice}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}: broken JSON at {place}; {advice}") from None
    except ValueError:
        # Also what is not UTF-8, and integers of thousands of digits.
        raise UserError(f"{path}: broken JSON; {advice}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object, found a JSON {type(value).__name__}; {advice}")
    return value


def require_shape(value: Any, shape: Any, path: str, *, advice: str = _AGAIN) -> None:
    """Checks that what a JSON file holds is of the types that its readers count on.

    Args:
      value: of the file.
      shape: a type, or a tuple of such as may be there; for an object a dict from the names of
        members to their shapes, `ANY_NAME` for those that it does not name; for a list a list with
        the shape of its elements. A member may be missing.
      path: of the file, for the message.
      advice: what to do if it is another.

    Raises:
      UserError: something is of another type; names the file and the member.
    """
    fault = _fault(value, shape, "")
    if fault is not None:
        raise UserError(f"{path}: {fault}; {advice}")


def _fault(value: Any, shape: Any, place: str) -> str | None:
    """Returns what is wrong, None if nothing is."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return _other(value, place, (dict,))
        faults = (
            _fault(item, shape.get(name, shape.get(ANY_NAME, object)), _member(place, name, shape))
            for name, item in value.items()
        )
        return next((fault for fault in faults if fault is not None), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _other(value, place, (list,))
        faults = (_fault(item, shape[0], f"an element of {place}") for item in value)
        return next((fault for fault in faults if fault is not None), None)
    kinds = shape if isinstance(shape, tuple) else (shape,)
    # To JSON a truth value is no number, and a whole number may stand for any.
    if type(value) is int and (int in kinds or float in kinds) and abs(value) >= _LARGEST_INTEGER:
        return f"{place or 'all of it'} is a number of more than 64 bits"
    if object in kinds or type(value) in kinds or (type(value) is int and float in kinds):
        return None
    return _other(value, place, kinds)


def _member(place: str, name: str, shape: Mapping[str, Any]) -> str:
    # A name that is none of ours may be anything.
    known = name if name in shape else "a member"
    return f"{place}.{known}" if place else known


def _other(value: Any, place: str, kinds: tuple[type, ...]) -> str:
    expected = " or ".join(_KINDS[kind] for kind in kinds)
    return f"{place or 'all of it'} is {_KINDS[type(value)]}, expected {expected}"


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError
    return int(digits)
