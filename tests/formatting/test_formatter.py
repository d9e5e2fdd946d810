"""The text format and what is counted about it."""

from __future__ import annotations

import json
import random

import pytest

from data_prep.common import patients
from data_prep.formatting import formatter as pretraining_text
from data_prep.formatting import statistics as text_statistics
from data_prep.formatting.formatter import NoteFormatter, NoteToFormat
from data_prep.formatting.statistics import TextStatistics
from data_prep.formatting.text_files import Document


def formatter(section_rules: str = "fixed") -> NoteFormatter:
    return NoteFormatter(
        section_rules=section_rules, sentence_splitter="rules", spacy_model="unused"
    )


def parts(content: bytes) -> tuple[TextStatistics, list[Document]]:
    first, *documents = [json.loads(line) for line in content.decode().split("\n")[:-1]]
    return TextStatistics.from_json(first), [Document(*document) for document in documents]


def test_one_sentence_a_line_and_a_blank_line_after_the_note() -> None:
    batch = formatter()(
        [
            NoteToFormat("Discharge summary", False, "Allergies:\nNone\n\nHe came. He\nwent home."),
            NoteToFormat("Nursing/other", True, "Stable. µ \u2028 …"),
            NoteToFormat("Nursing/other", False, " ---- \n"),
        ]
    )
    statistics, documents = parts(batch.content)
    stem, _, text, _ = documents[0]
    assert stem == "discharge_summary"
    assert text.endswith("He came.\nHe went home.\n\n")
    assert "\n\n" not in text[:-2]
    assert documents[1].stem == "nursing_other.held_out"
    assert len(documents) == 2
    assert batch.notes == 3
    assert batch.words == len(text.split()) + len(documents[1].text.split())
    assert statistics.dropped == {"Nursing/other": {"no sentence": 1}}
    assert statistics.total(held_out=True)["notes"] == 1
    assert statistics.total()["words"] == batch.words


def test_a_note_that_the_published_rules_lose_is_counted(monkeypatch) -> None:
    def split(text: str, rules: str) -> list[str]:
        if text == "lost":
            raise pretraining_text.sectioning.SectioningError
        return [text]

    monkeypatch.setattr(pretraining_text.sectioning, "split_sections", split)
    notes = [NoteToFormat("A", False, text) for text in ("One.", "lost", "Two.")]
    statistics, documents = parts(formatter("published")(notes).content)
    assert [document.text for document in documents] == ["One.\n\n", "Two.\n\n"]
    assert statistics.dropped == {"A": {"sectioning failed": 1}}


def test_the_text_of_a_note_does_not_depend_on_its_batch() -> None:
    rng = random.Random(1)
    words = ["Pt.", "stable", "q.d.", "1.", "Dr. X", "BP 120/80.", "\n\nPlan:\n", "No."]
    notes = [
        NoteToFormat("A", False, " ".join(rng.choices(words, k=rng.randint(1, 60))))
        for _ in range(37)
    ]
    make = formatter()
    together = parts(make(notes).content)[1]
    alone = [document for note in notes for document in parts(formatter()([note]).content)[1]]
    assert together == alone


def test_statistics_add_up_whatever_the_batches() -> None:
    rng = random.Random(2)
    notes = []
    for _ in range(60):
        sections = [f"Header {rng.randrange(9)}: {rng.randrange(20)} x" for _ in range(5)]
        note = (rng.choice("AB"), rng.random() < 0.3, sections, [[s] for s in sections])
        notes.append((*note, rng.randrange(40)))

    def count(batch_size: int) -> TextStatistics:
        whole = TextStatistics()
        for start in range(0, len(notes), batch_size):
            batch = TextStatistics()
            for note in notes[start : start + batch_size]:
                batch.add_note(*note)
            batch.drop_note("A", "reason")
            whole.add(TextStatistics.from_json(json.loads(json.dumps(batch.to_json()))))
        return whole

    one, many = count(60), count(7)
    assert one.total() == many.total() == {
        "notes": 60, "sections": 300, "sentences": 300, "words": 1200,
    }  # fmt: skip
    assert one.counts == many.counts
    assert one.lengths == many.lengths
    assert one.common_headers() == many.common_headers()
    assert many.dropped == {"A": {"reason": 9}}
    assert 1 < len(one.common_headers()) < 9
    seen = [section for *_, sections, _, _ in notes for section in sections]
    share = (len(seen) - len(set(seen))) / len(seen)
    assert one.repeated_section_share() == many.repeated_section_share() == share


def test_only_headers_of_many_patients_are_given_out() -> None:
    statistics = TextStatistics()
    for number in range(60):
        sections = ["Allergies: none", "Allergies: again", f"Name {number}: x", "no header"]
        if number % 20:
            sections.append("Nineteen: x")
        if number >= 40:
            sections.append("Nobody: x")
        patient = number % 20 + 1 if number < 40 else patients.UNKNOWN
        statistics.add_note("A", False, sections, [[s] for s in sections], patient)
    assert statistics.common_headers() == [("Allergies", 20)]


def test_patients_are_counted_whatever_the_order() -> None:
    hashes = [patients.patient_hash(str(number)) for number in range(5000)]
    whole, parts = patients.Patients(64, hashes), patients.Patients(64)
    for start in range(0, 5000, 37):
        parts.update(patients.Patients(64, reversed(hashes[start : start + 37])).hashes() * 2)
    assert whole.hashes() == parts.hashes() == sorted(hashes)[:64]
    assert whole.count() == parts.count()
    assert 4000 < whole.count() < 6000
    assert patients.Patients(64, [*hashes[:63], *hashes[:63], patients.UNKNOWN]).count() == 63


def test_repeated_share_is_sampled_when_sections_are_many(monkeypatch) -> None:
    monkeypatch.setattr(text_statistics, "_MAX_SECTION_HASHES", 500)
    whole = TextStatistics()
    for batch in range(20):
        part = TextStatistics()
        sections = [f"section {batch * 200 + i}" for i in range(200)] * 2
        part.add_note("A", False, sections, [[s] for s in sections], 1)
        whole.add(part)
    assert len(whole._sections) <= 500
    assert whole.repeated_section_share() == 0.5


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 15, 16, 100, 4096, 1_000_000])
def test_a_length_lies_in_its_bucket(length: int) -> None:
    bucket = text_statistics._bucket(length)
    start, end = (text_statistics.bucket_start(b) for b in (bucket, bucket + 1))
    assert start <= length < end
