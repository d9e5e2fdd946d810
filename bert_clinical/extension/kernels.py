"""Counts words and who has them, compiled.

Whose a word is stands in a table with open addresses: a word's number and a patient's hash in each
slot that is taken. The number is stored plus 1, so that 0 is free.
"""

from __future__ import annotations

import numpy as np

from data_prep.common.compiled import compiled, compiled_part
from data_prep.common.patients import UNKNOWN

_FIRST_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_NOBODY = np.uint64(UNKNOWN)


@compiled_part
def _insert(slot_words, slot_patients, number, patient):  # type: ignore[no-untyped-def]
    """Puts a pair into the table; tells whether it is new."""
    mask = np.uint64(slot_words.size - 1)
    place = patient ^ (np.uint64(number) * _FIRST_FACTOR)
    place = (place ^ (place >> np.uint64(29))) * _SECOND_FACTOR
    place = (place ^ (place >> np.uint64(32))) & mask
    while slot_words[place] != 0:
        if slot_words[place] == number and slot_patients[place] == patient:
            return False
        place = (place + np.uint64(1)) & mask
    slot_words[place] = number
    slot_patients[place] = patient
    return True


@compiled
def count(  # type: ignore[no-untyped-def]
    words, starts, patients, first_document, by_patient, most_carriers,
    counts, last_document, carriers, slot_words, slot_patients,
):  # fmt: skip
    """Counts the words of some documents, and who has them.

    Args:
      words: uint32 [words], the words' numbers.
      starts: int64 [documents + 1], places in `words`.
      patients: uint64 [documents], hashes; `UNKNOWN` is nobody.
      first_document: the number of the first document, from 0 over all calls.
      by_patient: whether patients are counted, else documents.
      most_carriers: how far is counted who has a word.
      counts: int64 [V], how often each word stands in the text; counted on.
      last_document: int64 [V], the document in which each was seen last, -1 for none; changed.
      carriers: int32 [V], patients or documents of each; counted on.
      slot_words: uint32 [S], S a power of 2, with room for all words; changed.
      slot_patients: uint64 [S]; changed.

    Returns:
      How many slots were taken.
    """
    taken = 0
    for document in range(starts.size - 1):
        patient = patients[document]
        for place in range(starts[document], starts[document + 1]):
            word = words[place]
            counts[word] += 1
            if last_document[word] == first_document + document:
                continue
            last_document[word] = first_document + document
            if carriers[word] >= most_carriers:
                continue
            if by_patient:
                if patient == _NOBODY:
                    continue
                if not _insert(slot_words, slot_patients, word + np.uint32(1), patient):
                    continue
                taken += 1
            carriers[word] += 1
    return taken


@compiled
def move(  # type: ignore[no-untyped-def]
    old_words, old_patients, numbers, slot_words, slot_patients
):  # fmt: skip
    """Moves a table to another one, under new numbers.

    Args:
      old_words: uint32 [S].
      old_patients: uint64 [S].
      numbers: int64 [V], the new number of each word, -1 for one that is forgotten.
      slot_words: uint32 [T], free; T a power of 2.
      slot_patients: uint64 [T].

    Returns:
      How many slots were taken.
    """
    taken = 0
    for place in range(old_words.size):
        if old_words[place] != 0 and numbers[old_words[place] - 1] >= 0:
            number = np.uint32(numbers[old_words[place] - 1] + 1)
            _insert(slot_words, slot_patients, number, old_patients[place])
            taken += 1
    return taken
