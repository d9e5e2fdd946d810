"""Damaged JSON is one line that names the file, whatever the damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object

PLANTED = "Quixzandorph"
DAMAGES = {
    "empty": (b"", "broken JSON"),
    "cut": (b'{"a": "' + PLANTED.encode(), "broken JSON"),
    "other bytes": (b'{"a": "\xff"}', "broken JSON"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "broken JSON"),
    "many digits": (b'{"a": ' + b"9" * 10_000 + b"}", "broken JSON"),
    "deep": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "a list": (b"[1]", "found a JSON list"),
    "a number": (b"1", "found a JSON int"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, damage: str) -> None:
    content, found = DAMAGES[damage]
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=found) as failure:
        read_json_object(path, advice="make it again")
    assert str(failure.value).startswith(f"{path}: ")
    assert str(failure.value).endswith("make it again")
    assert PLANTED not in str(failure.value)


def test_a_missing_file_and_a_sound_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: No such file"):
        read_json_object(tmp_path / "nowhere.json")
    (tmp_path / "sound.json").write_text('{"a": [1, null]}')
    assert read_json_object(tmp_path / "sound.json") == {"a": [1, None]}
