"""Notes of a text as questions: each WordPiece once, the same for every model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_clinical.audit.texts import Note, questions_of, read_notes
from bert_clinical.tokenization import FullTokenizer
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common.errors import UserError
from data_prep.common.own_files import PATIENTS_SUFFIX
from tests.golden_data import golden

MASK, PAD = 103, 0


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(FullTokenizer(golden("vocab_cased.txt"), do_lower_case=False))


def text_file(path: Path, documents: list[list[str]]) -> Path:
    path.write_text("\n\n\n".join("\n".join(lines) for lines in documents) + "\n")
    return path


def test_documents_without_the_canaries(tmp_path: Path, encoder: TextEncoder) -> None:
    planted = "The cook has the code 12."
    one = text_file(tmp_path / "a.txt", [["Stable.", planted, "Seen."], [planted], ["Well."]])
    two = text_file(tmp_path / "b.txt", [["Pain."]])
    found = read_notes([one, two], encoder, {planted}, 99, 1)
    assert (found.total, found.planted, found.has_patients) == (4, 2, False)
    assert [(note.number, note.patient) for note in found.notes] == [
        (0, None),
        (2, None),
        (3, None),
    ]
    assert found.notes[0].ids == encoder.encode("Stable. Seen.")


def test_notes_and_patients_of_all_the_text_are_known_again(
    tmp_path: Path, encoder: TextEncoder
) -> None:
    planted = "The cook has the code 12."
    one = text_file(tmp_path / "a.txt", [["Stable.", planted], ["Seen."], ["Well."]])
    two = text_file(tmp_path / "b.txt", [["Well."], ["Stable."], ["Seen.", "Well."]])
    for path, patients in ((one, "p\nq\np\n"), (two, "r\nq\nr\n")):
        path.with_name(path.name + PATIENTS_SUFFIX).write_text(patients)
    first, second = (read_notes([path], encoder, {planted}, 1, 1) for path in (one, two))
    assert len(first.notes) == 1 and len(first.digests) == 3
    assert len(first.digests & second.digests) == 2
    assert first.patients & second.patients == {"q"}


def test_the_seed_chooses_notes_of_all_files(tmp_path: Path, encoder: TextEncoder) -> None:
    files = [text_file(tmp_path / name, [[f"n {i}"] for i in range(50)]) for name in "ab"]

    def chosen(seed: int) -> list[int]:
        found = read_notes(files, encoder, (), 20, seed)
        assert found.total == 100
        return [note.number for note in found.notes]

    assert len(chosen(1)) == 20 and chosen(1) == sorted(chosen(1)) == chosen(1) != chosen(2)
    assert min(chosen(1)) < 50 < max(chosen(1))


def test_a_file_beside_the_text_says_whose_the_notes_are(
    tmp_path: Path, encoder: TextEncoder
) -> None:
    one = text_file(tmp_path / "a.txt", [["Stable."], ["Seen."]])
    two = text_file(tmp_path / "b.txt", [["Pain."]])
    beside = tmp_path / f"a.txt{PATIENTS_SUFFIX}"
    beside.write_text("17\n4\n")
    assert [n.patient for n in read_notes([one], encoder, (), 9, 1).notes] == ["17", "4"]
    assert not read_notes([one, two], encoder, (), 9, 1).has_patients
    for content, found in (("17\n", 1), ("17\n\n", 1), ("1\n2\n3\n", 3)):
        beside.write_text(content)
        with pytest.raises(UserError, match=rf"a\.txt\.patients: found {found} patients"):
            read_notes([one], encoder, (), 9, 1)


def test_an_empty_text_is_an_error(tmp_path: Path, encoder: TextEncoder) -> None:
    with pytest.raises(UserError, match=r"empty\.txt: found no text"):
        read_notes([text_file(tmp_path / "empty.txt", [])], encoder, (), 9, 1)


@pytest.mark.parametrize("max_seq_length", [8, 13, 128])
def test_every_piece_is_asked_once(max_seq_length: int, encoder: TextEncoder) -> None:
    rng = np.random.default_rng(2)
    lengths = (1, 2, 5, 6, 40, 301)
    notes = [
        Note(7 * n, None, rng.integers(200, 900, size=length).tolist())
        for n, length in enumerate(lengths)
    ]
    settings = {"max_seq_length": max_seq_length, "mask_id": MASK, "pad_id": PAD, "seed": 3}
    questions, owners = questions_of(notes, encoder, **settings)
    asked: dict[int, list[int]] = {}
    for sequence, place, piece, owner in zip(
        questions.sequence, questions.place, questions.piece, owners, strict=True
    ):
        assert questions.ids[sequence, questions.positions[sequence, place]] == MASK
        asked.setdefault(int(owner), []).append(int(piece))
    for owner, note in enumerate(notes):
        assert sorted(asked[owner]) == sorted(note.ids)
    assert np.all(np.diff(questions.sequence) >= 0)
    for ids, length in zip(questions.ids, questions.lengths, strict=True):
        assert length <= max_seq_length and np.all(ids[length:] == PAD)
        assert (ids[0], ids[length - 1]) == (encoder.cls_id, encoder.sep_id)
        assert 1 <= np.count_nonzero(ids == MASK) <= max(0.2 * length, 1)
    again, _ = questions_of(notes, encoder, **settings)
    other, _ = questions_of(notes, encoder, **{**settings, "seed": 4})
    assert np.array_equal(questions.ids, again.ids)
    assert max_seq_length < 9 or not np.array_equal(questions.ids, other.ids)
    # What is masked together does not depend on the notes that are asked with it.
    alone, _ = questions_of(notes[5:], encoder, **settings)
    assert {row.tobytes() for row in alone.ids} <= {
        row[: alone.ids.shape[1]].tobytes() for row in questions.ids
    }
