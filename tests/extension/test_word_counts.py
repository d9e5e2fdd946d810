"""Words, and with how many patients each stands, against the plain way of counting."""

from __future__ import annotations

import gzip
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from bert_clinical.extension import word_counts
from bert_clinical.extension.word_counts import WordCounts, count_words, text_name
from bert_clinical.tokenization import BasicTokenizer
from data_prep.common.errors import UserError

UNKNOWN = "0" * 16


def write(path: Path, documents: list[tuple[str, str]], *, patients: bool = True) -> Path:
    path.write_text("\n".join(f"{text}\n" for _, text in documents))
    if patients:
        path.with_name(f"{path.name}.patients").write_text(
            "".join(f"{patient}\n" for patient, _ in documents)
        )
    return path


def made_up(seed: int, count: int, patients: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    words = [f"W{int(rng.paretovariate(0.7)) % 3000}," for _ in range(3000)] + ["Étage", "a\nb"]
    return [
        (f"p{rng.randrange(patients)}", " ".join(rng.choices(words, k=rng.randint(1, 40))))
        for _ in range(count)
    ]


def carriers(counts: WordCounts) -> dict[str, int]:
    return dict(zip(counts.words, counts.carriers.tolist(), strict=True))


def totals(counts: WordCounts) -> dict[str, int]:
    return dict(zip(counts.words, counts.totals().tolist(), strict=True))


def plainly(documents: list[tuple[str, str]], *, lower: bool) -> tuple[Counter, dict[str, set]]:
    basic = BasicTokenizer(lower)
    found: Counter[str] = Counter()
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for patient, text in documents:
        for word in basic.tokenize(text):
            found[word] += 1
            owners[word].add(patient)
    return found, owners


@pytest.mark.parametrize("lower", [True, False])
def test_patients_are_counted_up_to_the_limit(tmp_path: Path, monkeypatch, lower: bool) -> None:
    # Small, so that the table grows and the documents come in many batches.
    monkeypatch.setattr(word_counts, "_FEWEST_SLOTS", 8)
    monkeypatch.setattr(word_counts, "_BYTES_AT_A_TIME", 999)
    documents = [made_up(seed, 400, 90) for seed in (1, 2)]
    files = [write(tmp_path / f"{n}.txt", part) for n, part in enumerate(documents)]
    counts = count_words(files, do_lower_case=lower, most_carriers=7)
    found, owners = plainly([*documents[0], *documents[1]], lower=lower)
    assert counts.by_patient and counts.documents == 800
    assert totals(counts) == found
    assert carriers(counts) == {word: min(len(whose), 7) for word, whose in owners.items()}
    assert max(len(whose) for whose in owners.values()) > 50
    first, _ = plainly(documents[0], lower=lower)
    numbers, times = counts.texts["0"]
    assert {counts.words[n]: t for n, t in zip(numbers, times, strict=True)} == first


def test_documents_are_counted_where_one_text_has_no_patients(tmp_path: Path) -> None:
    one = write(tmp_path / "a.txt", [("p", "pain pain"), ("p", "pain"), ("p", "rash")])
    two = write(tmp_path / "b.txt", [("q", "pain\nand pain")], patients=False)
    assert carriers(count_words([one], do_lower_case=False, most_carriers=9))["pain"] == 1
    both = count_words([one, two], do_lower_case=False, most_carriers=9)
    assert not both.by_patient
    assert carriers(both) == {"pain": 3, "rash": 1, "and": 1}
    assert totals(both)["pain"] == 5


def test_who_is_unknown_is_nobody(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.txt", [(UNKNOWN, "pain"), (UNKNOWN, "pain"), ("p", "pain"), ("0", "pain")]
    )
    assert carriers(count_words([path], do_lower_case=False, most_carriers=9)) == {"pain": 2}


def test_rare_words_are_forgotten_and_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(word_counts, "_BYTES_AT_A_TIME", 400)
    common = [(f"p{n}", f"fever cough w{n} x{n} y{n}") for n in range(300)]
    files = [write(tmp_path / f"{name}.txt", common) for name in "ab"]
    counts = count_words(files, do_lower_case=False, most_carriers=50, most_words=100)
    assert len(counts.words) <= 100
    assert carriers(counts)["fever"] == carriers(counts)["cough"] == 50
    assert totals(counts)["fever"] == 600
    for name in "ab":
        kept = int(counts.texts[name][1].sum())
        assert kept + counts.forgotten[name] == 1500
        assert counts.forgotten[name] > 700
    with_room = count_words(files, do_lower_case=False, most_carriers=50)
    assert len(with_room.words) == 902 and with_room.forgotten == {"a": 0, "b": 0}


def test_shards_are_one_text_and_gzip_is_read(tmp_path: Path) -> None:
    names = ("radiology-00000-of-00002.txt", "radiology-00001-of-00002.txt.gz")
    (tmp_path / names[0]).write_text("clear\n")
    (tmp_path / names[1]).write_bytes(gzip.compress(b"clear lungs\n"))
    counts = count_words([tmp_path / n for n in names], do_lower_case=False, most_carriers=9)
    assert list(counts.texts) == ["radiology"]
    assert totals(counts) == {"clear": 2, "lungs": 1}
    assert text_name(Path("a/nursing_other.held_out.txt")) == "nursing_other.held_out"


def test_patients_of_another_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", [("p", "pain"), ("q", "rash")])
    path.with_name("a.txt.patients").write_text("p\n")
    with pytest.raises(UserError, match=r"found 1 patients, but a\.txt has 2 documents"):
        count_words([path], do_lower_case=False, most_carriers=9)
