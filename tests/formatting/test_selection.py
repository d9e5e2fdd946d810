"""Which categories a survey finds and which of them are chosen."""

import pytest

from data_prep.common.errors import UserError
from data_prep.formatting.selection import Survey


def _survey(*categories: str) -> Survey:
    survey = Survey(skip_bad_rows=False)
    survey.merge((category, 1, 1) for category in categories)
    return survey


def test_any_number_of_categories() -> None:
    names = [f"Clinic note {number}" for number in range(20_000)]
    assert _survey(*names).choose("all") == sorted(names)
    assert _survey(*names).choose("clinic note 19999, Clinic note 3") == [names[19_999], names[3]]


def test_memory_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.formatting.selection._MAX_CHARACTERS_OF_CATEGORIES", 25)
    _survey("abcdefghij", "ABCDEFGHIJ", "klmnopqrst")
    with pytest.raises(UserError, match=r"25 together.*--category_column"):
        _survey("abcdefghij", "klmnopqrst", "uvwxyz")
    with pytest.raises(UserError, match="more than 100 characters") as error:
        _survey("secret " * 15)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Labs, blood", ["Labs, blood"]),
        ("LABS,BLOOD", ["Labs, blood"]),
        ("ECG,labs, blood ,Labs", ["ECG", "Labs, blood", "Labs"]),
        ("Labs,ECG", ["Labs", "ECG"]),
        ("Labs,Labs", ["Labs"]),
    ],
)
def test_a_comma_in_a_name(asked: str, expected: list[str]) -> None:
    assert _survey("Labs", "Labs, blood", "ECG").choose(asked) == expected


def test_a_near_miss_lists_what_is_there() -> None:
    labels = ["Discharge summary", "ECG", "Radiology"]
    with pytest.raises(UserError, match="'Discharge summaries'; found 'Discharge summary' and 2"):
        _survey(*labels).choose("Discharge summaries")
    with pytest.raises(UserError, match="'Echo'; found 'Discharge summary', 'ECG', 'Radiology'"):
        _survey(*labels).choose("ECG,Echo")
    with_text = _survey(*labels, "seen by Ellwood; she was well")
    with pytest.raises(UserError, match="found 'Radiology' and 3 others"):
        with_text.choose("Radiologie")
    with pytest.raises(UserError, match="check --category_column") as error:
        with_text.choose("Nursing")
    assert "Ellwood" not in str(error.value)
