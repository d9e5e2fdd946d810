"""What a run counts about its text: numbers for the manifest and distributions for the report.

Counting is done batch by batch in the workers; the batches' counts are added up in the order of the
notes, so that they are the same for any number of workers. Nothing here holds a note's text but
section headers, and those are given out only when many patients share them.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_prep.common.patients import UNKNOWN, Patients

_HEADER = re.compile(r"\s*([A-Z][A-Za-z0-9 /&,'()\-]{1,58}?)\s*:")
_MAX_HEADERS = 100_000
_MAX_SECTION_HASHES = 500_000
_PATIENTS_COUNTED_EXACTLY = 1024
_BUCKETS_PER_DOUBLING = 4
_EXACT_BELOW = 8

COUNTED = ("notes", "sections", "sentences", "words")


class TextStatistics:
    """Counts by category and set, distributions of lengths, headers, and repeated sections.

    Attributes:
      counts: (category, held out) → how many notes, sections, sentences and words were written.
      dropped: category → reason → notes, for notes that gave no text.
      lengths: "section", "sentence", "note" → bucket (see `bucket_start`) → how many.
      headers: section header → patients with it; a note of nobody known gives none.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, bool], Counter[str]] = {}
        self.dropped: dict[str, Counter[str]] = {}
        self.lengths: dict[str, Counter[int]] = {
            kind: Counter() for kind in ("section", "sentence", "note")
        }
        self.headers: dict[str, Patients] = {}
        self._sections: Counter[int] = Counter()
        self._sampled_one_in = 1

    def add_note(
        self,
        category: str,
        held_out: bool,
        sections: Sequence[str],
        lines: Sequence[Sequence[str]],
        patient: int,
    ) -> int:
        """Counts a note that was written and returns its words.

        Args:
          category: the note's category.
          held_out: whether it went to the held-out set.
          sections: the note's sections.
          lines: each section's lines as they were written.
          patient: hash of the one it is of.
        """
        words = sentences = 0
        for section_lines in lines:
            section_words = 0
            for line in section_lines:
                line_words = len(line.split())
                self.lengths["sentence"][_bucket(line_words)] += 1
                section_words += line_words
            sentences += len(section_lines)
            self.lengths["section"][_bucket(section_words)] += 1
            words += section_words
        self.lengths["note"][_bucket(words)] += 1
        if patient != UNKNOWN:
            for section in sections:
                match = _HEADER.match(section)
                if match is not None:
                    self._patients_with(" ".join(match[1].split())).add(patient)
        self._sections.update(_hash_of_section(section) for section in sections)
        self.counts.setdefault((category, held_out), Counter()).update(
            notes=1, sections=len(sections), sentences=sentences, words=words
        )
        return words

    def drop_note(self, category: str, reason: str) -> None:
        """Counts a note that gave no text."""
        self.dropped.setdefault(category, Counter())[reason] += 1

    def add(self, other: TextStatistics) -> None:
        """Adds the counts of the batch that follows."""
        for key, counts in other.counts.items():
            self.counts.setdefault(key, Counter()).update(counts)
        for category, reasons in other.dropped.items():
            self.dropped.setdefault(category, Counter()).update(reasons)
        for kind, buckets in other.lengths.items():
            self.lengths[kind].update(buckets)
        for header, patients in other.headers.items():
            self._patients_with(header).update(patients.hashes())
        if len(self.headers) > _MAX_HEADERS:
            self.headers = dict(self._most_common(_MAX_HEADERS // 2))
        if other._sampled_one_in > self._sampled_one_in:
            self._sample(other._sampled_one_in)
        for section, count in other._sections.items():
            if section % self._sampled_one_in == 0:
                self._sections[section] += count
        while len(self._sections) > _MAX_SECTION_HASHES:
            self._sample(2 * self._sampled_one_in)

    def _patients_with(self, header: str) -> Patients:
        if header not in self.headers:
            self.headers[header] = Patients(_PATIENTS_COUNTED_EXACTLY)
        return self.headers[header]

    def _most_common(self, number: int) -> list[tuple[str, Patients]]:
        counted = [(-patients.count(), header) for header, patients in self.headers.items()]
        return [(header, self.headers[header]) for _, header in heapq.nsmallest(number, counted)]

    def _sample(self, one_in: int) -> None:
        # Chosen by the hash, so that the sample does not depend on the order of the sections.
        self._sampled_one_in = one_in
        self._sections = Counter({s: n for s, n in self._sections.items() if s % one_in == 0})

    def total(self, *, held_out: bool | None = None) -> dict[str, int]:
        """Returns the counts of all categories; of one set only if `held_out` says which."""
        total = Counter(dict.fromkeys(COUNTED, 0))
        for (_, is_held_out), counts in self.counts.items():
            if held_out is None or held_out == is_held_out:
                total.update(counts)
        return dict(total)

    def common_headers(self) -> list[tuple[str, int]]:
        """Returns the headers of at least `MANY_PATIENTS`, with how many, the most common first.

        Beyond a thousand patients their number is an estimate, some hundredths off at most times.
        """
        common = [
            (h, patients.count()) for h, patients in self.headers.items() if patients.are_many()
        ]
        return sorted(common, key=lambda item: (-item[1], item[0]))

    def repeated_section_share(self) -> float:
        """Returns the share of sections that an earlier one equals, white space aside.

        Exact up to half a million different sections, beyond that from a sample of them.
        """
        sections = self._sections.total()
        return (sections - len(self._sections)) / sections if sections else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns the counts of a batch for `from_json`; with all headers, so not to be shown."""
        sections = self._sections
        places: dict[int, int] = {}
        for patients in self.headers.values():
            for patient in patients.hashes():
                places.setdefault(patient, len(places))
        return {
            "counts": [[*key, dict(counts)] for key, counts in self.counts.items()],
            "dropped": self.dropped,
            "lengths": self.lengths,
            "patients": _packed("Q", places),
            "headers": {
                header: _packed("I", (places[patient] for patient in patients.hashes()))
                for header, patients in self.headers.items()
            },
            "sections": _packed("Q", sections.keys()),
            "section_counts": _packed("I", sections.values()),
            "sampled_one_in": self._sampled_one_in,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TextStatistics:
        """Returns what `to_json` was called on."""
        statistics = cls()
        for category, held_out, counts in value["counts"]:
            statistics.counts[category, held_out] = Counter(counts)
        statistics.dropped = {c: Counter(reasons) for c, reasons in value["dropped"].items()}
        for kind, buckets in value["lengths"].items():
            statistics.lengths[kind] = Counter({int(b): n for b, n in buckets.items()})
        patients = _unpacked("Q", value["patients"])
        for header, places in value["headers"].items():
            shared_by = (patients[place] for place in _unpacked("I", places))
            statistics._patients_with(header).update(shared_by)
        hashes = _unpacked("Q", value["sections"])
        statistics._sections = Counter(
            dict(zip(hashes, _unpacked("I", value["section_counts"]), strict=True))
        )
        statistics._sampled_one_in = value["sampled_one_in"]
        return statistics


def bucket_start(bucket: int) -> float:
    """Returns the smallest length that falls into a bucket: four buckets to each doubling."""
    if bucket < _EXACT_BELOW:
        return bucket
    return _EXACT_BELOW * 2 ** ((bucket - _EXACT_BELOW) / _BUCKETS_PER_DOUBLING)


def _bucket(length: int) -> int:
    if length < _EXACT_BELOW:
        return length
    return _EXACT_BELOW + int(math.log2(length / _EXACT_BELOW) * _BUCKETS_PER_DOUBLING)


def _packed(typecode: str, numbers: Iterable[int]) -> str:
    return base64.b64encode(array(typecode, numbers).tobytes()).decode()


def _unpacked(typecode: str, text: str) -> array[int]:
    numbers: array[int] = array(typecode)
    numbers.frombytes(base64.b64decode(text))
    return numbers


def _hash_of_section(section: str) -> int:
    digest = hashlib.blake2b(" ".join(section.split()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def merge_counts(pairs: Iterable[tuple[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Returns category → reason → number, added up and sorted by name."""
    merged: dict[str, Counter[str]] = {}
    for category, reasons in pairs:
        merged.setdefault(category, Counter()).update(reasons)
    return {category: dict(sorted(merged[category].items())) for category in sorted(merged)}
