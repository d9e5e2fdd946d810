"""Which categories a survey finds and which of them are chosen."""

from collections.abc import Mapping

import pytest

from data_prep.common.errors import UserError
from data_prep.formatting.category_names import MANY_NOTES, OTHER_CATEGORIES
from data_prep.formatting.selection import NoteSelection, Survey
from data_prep.notes.rows import Note


def _survey(*categories: str, patients: Mapping[str, list[str]] | None = None) -> Survey:
    """Returns what is found of a note of each category, and of one for each of `patients`."""
    survey = Survey(skip_bad_rows=False)
    for category in categories:
        survey.add(Note("1", "7", category, False, "text"))
    for category, subjects in (patients or {}).items():
        for subject in subjects:
            survey.add(Note("1", subject, category, False, "text"))
    return survey


def test_any_number_of_categories(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"Clinic note {number}" for number in range(20_000)]
    survey = _survey("Radiology", *names)
    assert survey.choose("all") == ["Radiology", OTHER_CATEGORIES]
    assert survey.rows_of(OTHER_CATEGORIES) == survey.usable_of(OTHER_CATEGORIES) == 20_000
    assert "20000 notes have 20000 values" in caplog.text
    assert "go to other_categories;" in caplog.text and "Clinic" not in caplog.text
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
    with pytest.raises(UserError, match=r"'Radiology' and 1 different .*column") as error:
        with_text.choose("Nursing")
    assert "Ellwood" not in str(error.value)


def test_names_are_usual_ones_or_many_patients() -> None:
    many = [str(number) for number in range(20)]
    survey = _survey(
        "Nursing/other", "DS", "Cardiovascular / Pulmonary", "Ellwood",
        patients={
            "Arztbrief": many,
            "44814637": [*many, "20"],
            "Zebraword Ellwood": ["7"] * 30,
            "Zebraword": many[:19] * 2,
            "seen by him; he was well and went home on foot, again": many,
            "Befund": [""] * MANY_NOTES,
            "Zebra": [""] * (MANY_NOTES - 1),
            OTHER_CATEGORIES: many * 30,
        },
    )  # fmt: skip
    named = ["Befund", "44814637", "Arztbrief", "Cardiovascular / Pulmonary", "DS", "Nursing/other"]
    assert survey.choose("all") == [*named, OTHER_CATEGORIES]
    again = Survey(skip_bad_rows=False)
    again.merge(survey.found())
    assert again.choose("all") == survey.choose("all")
    assert survey.rows_of(OTHER_CATEGORIES) == 1 + 30 + 38 + 20 + MANY_NOTES - 1 + 600
    assert sum(map(survey.rows_of, survey.choose("all"))) == survey.rows.total()
    assert survey.choose(OTHER_CATEGORIES) == [OTHER_CATEGORIES]
    assert survey.usable_of(OTHER_CATEGORIES) == 600
    assert survey.choose("zebraword,ellwood") == ["Zebraword", "Ellwood"]
    with pytest.raises(UserError, match="'Nursing/other' and 6 different") as error:
        survey.choose("Zebraword Elwood")
    assert "Ellwood" not in str(error.value).replace("Zebraword Elwood", "")


def test_notes_of_other_categories_lose_nothing() -> None:
    rows = [Note("1", "7", name, False, name) for name in ("ECG", "Zebra", "ecg", "Ellwood")]

    def selection(takes_others: bool) -> NoteSelection:
        return NoteSelection(
            ["ECG", OTHER_CATEGORIES], held_out_fraction=0, is_duplicate=None, skip_bad_rows=False,
            takes_others=takes_others,
        )  # fmt: skip

    taken = [(note.category, note.text) for note in selection(True).notes(rows)]
    others = [(OTHER_CATEGORIES, "Zebra"), (OTHER_CATEGORIES, "Ellwood")]
    assert taken == [("ECG", "ECG"), others[0], ("ECG", "ecg"), others[1]]
    named = selection(False)
    assert [note.text for note in named.notes(rows)] == ["ECG", "ecg"]
    assert named.other_rows == 2
