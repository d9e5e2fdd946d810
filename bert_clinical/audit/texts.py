"""Notes of pretraining text, with whose they are, cut into windows of masked WordPieces."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_clinical.audit.masked_pieces import Questions
from bert_clinical.wordpieces.inputs import TextEncoder
from data_prep.common.documents import patients_file, read_documents
from data_prep.common.errors import UserError

_MASKED_AT_A_TIME = 0.15
_DIGEST_BYTES = 8


class Note(NamedTuple):
    """A document of the text.

    Attributes:
      number: its place among all, from 0.
      patient: whose it is; None where no file says it.
      ids: its WordPieces.
    """

    number: int
    patient: str | None
    ids: Sequence[int]


class Notes(NamedTuple):
    """Notes to be looked at.

    Attributes:
      notes: in the order of the text.
      total: how many the text has.
      planted: sentences that were left out because they are canaries.
      has_patients: whether a file says whose the notes are.
      digests: of all notes of the text, without what is planted.
      patients: of all notes, as far as a file says whose they are.
    """

    notes: list[Note]
    total: int
    planted: int
    has_patients: bool
    digests: Set[bytes]
    patients: Set[str]


def read_notes(
    files: Sequence[Path],
    encoder: TextEncoder,
    canaries: Collection[str],
    most: int,
    seed: int,
) -> Notes:
    """Returns notes of text files, or so many that the seed chooses.

    Args:
      files: a sentence a line, a blank line between documents.
      encoder: of the model's WordPieces.
      canaries: sentences to leave out, which nobody wrote of a patient.
      most: notes.
      seed: chooses them.

    Raises:
      UserError: a file cannot be read, holds no text, or not as many documents as its file of
        patients has lines.
    """
    known = all(patients_file(path).exists() for path in files)
    total = 0
    digests: set[bytes] = set()
    patients: set[str] = set()
    for lines, patient in (document for path in files for document in read_documents(path)):
        total += 1
        content = "\n".join(line for line in lines if line not in canaries).encode()
        digests.add(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest())
        if patient is not None:
            patients.add(patient)
    if not total:
        raise UserError(
            f"{', '.join(map(str, files))}: found no text; expected a sentence a line and a blank "
            "line between documents"
        )
    chosen = _chosen(total, most, seed)
    notes = []
    planted = 0
    documents = (document for path in files for document in read_documents(path))
    for number, (lines, patient) in enumerate(documents):
        if number not in chosen:
            continue
        kept = [line for line in lines if line not in canaries]
        planted += len(lines) - len(kept)
        ids = [piece for line in kept for piece in encoder.encode(line)]
        if ids:
            notes.append(Note(number, patient if known else None, ids))
    return Notes(notes, total, planted, known, digests, patients)


def _chosen(total: int, most: int, seed: int) -> Collection[int]:
    if total <= most:
        return range(total)
    drawn = np.random.default_rng(seed).choice(total, size=most, replace=False)
    return frozenset(map(int, drawn))


def questions_of(
    notes: Sequence[Note],
    encoder: TextEncoder,
    *,
    max_seq_length: int,
    mask_id: int,
    pad_id: int,
    seed: int,
) -> tuple[Questions, np.ndarray]:
    """Returns every WordPiece of notes as a question, about one in seven masked at a time.

    A note is cut into windows one after the other. The seed and the note's number decide what is
    masked together, so that two models are asked the same.

    Args:
      notes: the notes.
      encoder: of the model's WordPieces.
      max_seq_length: WordPieces of a window, special ones included.
      mask_id: of [MASK].
      pad_id: of [PAD].
      seed: of what is masked together.

    Returns:
      The questions, and int64 [M], the place in `notes` that each answer belongs to.
    """
    room = max_seq_length - 2
    rows: list[tuple[np.ndarray, np.ndarray, int]] = []
    for index, note in enumerate(notes):
        rng = np.random.default_rng([seed, note.number])
        for start in range(0, len(note.ids), room):
            part = [encoder.cls_id, *note.ids[start : start + room], encoder.sep_id]
            window = np.array(part, np.int32)
            order = rng.permutation(np.arange(1, len(part) - 1, dtype=np.int32))
            parts = -(-len(order) // max(int(_MASKED_AT_A_TIME * len(order)), 1))
            rows += [(window, np.sort(chosen), index) for chosen in np.array_split(order, parts)]
    # Sequences of about the same length are computed together.
    rows.sort(key=lambda row: -len(row[0]))
    width = max(len(chosen) for _, chosen, _ in rows)
    ids = np.full((len(rows), len(rows[0][0])), pad_id, np.int32)
    positions = np.zeros((len(rows), width), np.int32)
    pieces, places, sequences, owners = [], [], [], []
    for number, (window, chosen, index) in enumerate(rows):
        ids[number, : len(window)] = window
        ids[number, chosen] = mask_id
        positions[number, : len(chosen)] = chosen
        pieces.append(window[chosen])
        places.append(np.arange(len(chosen), dtype=np.int32))
        sequences.append(np.full(len(chosen), number, np.int32))
        owners.append(np.full(len(chosen), index))
    questions = Questions(
        ids,
        np.array([len(window) for window, _, _ in rows], np.int32),
        positions,
        np.concatenate(sequences),
        np.concatenate(places),
        np.concatenate(pieces),
    )
    return questions, np.concatenate(owners)
