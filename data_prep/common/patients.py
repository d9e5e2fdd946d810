"""How many patients share something, counted without keeping more than some hashes of their ids.

What one patient has, however often it is written, may be that patient's name; what many have is a
word of the trade.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

MANY_PATIENTS = 20
"""From so many on, what they share may be shown."""

UNKNOWN = 0
"""The hash of a patient of whom a source says nothing."""

_HASHES = 2**64
_WRITTEN_UNKNOWN = "0" * 16


def patient_hash(subject_id: str) -> int:
    """Returns a hash of a subject id, `UNKNOWN` for an empty one."""
    if not subject_id:
        return UNKNOWN
    return int.from_bytes(hashlib.blake2b(subject_id.encode(), digest_size=8).digest(), "little")


def as_written(patient: int) -> str:
    """Returns what a file beside a text says of a patient."""
    return f"{patient:016x}"


def read_hash(written: str) -> int:
    """Returns a hash of what a file beside a text says, ours or another key of a patient's."""
    return UNKNOWN if written == _WRITTEN_UNKNOWN else patient_hash(written)


class Patients:
    """Counts different patients: exactly up to a size, beyond it by an estimate.

    Only the smallest hashes are kept. They follow from the set of patients alone, so that the
    count depends neither on the order nor on how the work was shared.

    Args:
      size: how many hashes are kept. The estimate errs by one part in its square root.
      hashes: of patients; `UNKNOWN` is left out.
    """

    __slots__ = ("_hashes", "_limit", "_size")

    def __init__(self, size: int, hashes: Iterable[int] = ()) -> None:
        self._size = size
        self._hashes: set[int] = set()
        self._limit = _HASHES
        self.update(hashes)

    def add(self, patient: int) -> None:
        """Counts a patient, who may have been counted before."""
        if patient != UNKNOWN and patient < self._limit:
            self._hashes.add(patient)
            if len(self._hashes) >= 2 * self._size:
                self._keep_smallest()

    def update(self, hashes: Iterable[int]) -> None:
        """Counts several."""
        for patient in hashes:
            self.add(patient)

    def hashes(self) -> list[int]:
        """Returns what is kept, sorted, to be counted again elsewhere."""
        self._keep_smallest()
        return sorted(self._hashes)

    def count(self) -> int:
        """Returns how many there are."""
        self._keep_smallest()
        if len(self._hashes) < self._size:
            return len(self._hashes)
        return round((self._size - 1) * _HASHES / max(self._hashes))

    def are_many(self) -> bool:
        """Returns whether there are at least `MANY_PATIENTS`; `size` is to be no less."""
        return len(self._hashes) >= MANY_PATIENTS

    def _keep_smallest(self) -> None:
        if len(self._hashes) > self._size:
            self._hashes = set(heapq.nsmallest(self._size, self._hashes))
            self._limit = max(self._hashes)
