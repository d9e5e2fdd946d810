"""JSON files that somebody else may have written or damaged: one line says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_prep.common.errors import UserError, os_error_message

_AGAIN = "copy or download it again"


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
        value = json.loads(content.decode("utf-8"))
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
