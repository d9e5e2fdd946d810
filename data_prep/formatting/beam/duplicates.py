"""Repeated notes as steps of a pipeline: the same are left out as on one machine.

Of two equal notes the one that stands first in the input stays, so exact duplicates are found
wherever equal digests meet. Near-duplicates are decided one after the other, each against those
that were kept. A note that shares no band's key with any other is always kept and changes nothing
for the others (see `NearDuplicates.decide`). So keys are compared on all workers, and only notes
that share a key are decided in one place, in the order of the input; their signatures lie in the
staging folder until then. Digests, keys and signatures travel, never text.

A note is named by its piece and by its place among the notes of the piece that could be formatted.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np

from data_prep.beam import steps as beam_steps
from data_prep.beam.steps import text_free
from data_prep.common import files as beam_files
from data_prep.formatting.beam.results import Plan, StagedPiece
from data_prep.formatting.duplicates import (
    PERMUTATIONS,
    NearDuplicates,
    Signature,
    Signatures,
    exact_digest,
)
from data_prep.formatting.settings import FormatSettings

PIECE = struct.Struct(">II")
"""The key of a piece: number of the file, number of the piece within it."""

_KEYS_IN_PARTITION = 200_000
_PIECES_TOGETHER = 16
"""Pieces of the input whose signatures are laid down in one file, of at most 3 MB.

An engine may sort a worker's values of one key as one record, as Beam does on Flink: then no key
may have more of them than a few megabytes."""
_MIN_PARTITIONS = 8
_MAX_PARTITIONS = 4096

_LENGTH = struct.Struct(">I")
_PLACE = np.dtype([("file", ">u4"), ("piece", ">u4"), ("note", ">u4")])
_ITEM = np.dtype([("low", np.uint64), ("high", np.uint64)])
_FOUND, _SIGNATURES = b"F", b"S"


def _partitions_for(notes: int, settings: FormatSettings) -> int:
    """Returns in how many places keys meet: enough for each to hold its share in memory.

    It changes nothing in what is found.
    """
    keys = notes
    if settings.deduplicate == "near":
        keys *= Signatures(settings.near_duplicate_threshold).num_bands
    return min(max(_MIN_PARTITIONS, keys // _KEYS_IN_PARTITION), _MAX_PARTITIONS)


class FindDuplicates(beam.PTransform):
    """Pieces as bytes → (key of a piece, uint32 places of its duplicates as bytes).

    Args:
      settings: the flags.
      staging: folder of the run, where its plan lies when the first piece comes.
    """

    def __init__(self, settings: FormatSettings, staging: str) -> None:
        super().__init__()
        self._settings = settings
        self._staging = staging

    def expand(self, pieces: beam.PCollection) -> beam.PCollection:
        """Builds the steps."""
        arguments = (self._settings, self._staging)
        if self._settings.deduplicate == "exact":
            return (
                pieces
                | "Digests" >> beam.ParDo(_Digests(*arguments))
                | "Equal ones" >> beam.GroupByKey()
                | "Repeats" >> beam.ParDo(_Repeats())
            )
        keys = pieces | "Keys" >> beam.ParDo(_Keys(*arguments)).with_outputs(
            _SIGNATURES.decode(), main="keys"
        )
        met = (
            keys["keys"]
            | "Equal keys" >> beam.GroupByKey()
            | "Notes that met" >> beam.ParDo(_NotesThatMet())
        )
        return (
            (met, keys[_SIGNATURES.decode()])
            | beam.Flatten()
            | "With signatures" >> beam.GroupByKey()
            | "Their signatures" >> beam.ParDo(_SignaturesOfThose())
            | "Neighbours" >> beam.GroupByKey()
            | "Lay down" >> beam.ParDo(_LayDown(self._staging))
            | beam_steps.ToOneKey()
            | "Decide" >> beam.ParDo(_Decide(self._settings))
        )


class _OfPiece(beam.DoFn):
    def __init__(self, settings: FormatSettings, staging: str) -> None:
        self._settings = settings
        self._staging = staging

    def texts(self, staged: StagedPiece) -> Iterator[str]:
        """Yields the texts of the notes that could be formatted."""
        selection = self._settings.make_selection(Plan.read(self._staging).categories, None)
        for note in selection.notes(staged.rows(self._settings.columns)):
            yield note.text

    def shared_out(
        self, staged: StagedPiece, hashes: np.ndarray, items: np.ndarray, notes: np.ndarray
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yields the items (fixed-size bytes) for each partition, with the notes they are of."""
        partitions = _partitions_for(Plan.read(self._staging).notes, self._settings)
        partition_of = hashes % np.uint64(partitions)
        for partition in np.unique(partition_of):
            mine = partition_of == partition
            head = PIECE.pack(staged.file, staged.number) + struct.pack(">I", int(mine.sum()))
            payload = head + notes[mine].tobytes() + items[mine].tobytes()
            yield struct.pack(">I", int(partition)), payload


class _Digests(_OfPiece):
    @text_free
    def process(self, element: bytes) -> Iterator[tuple[bytes, bytes]]:
        staged = StagedPiece.from_bytes(element)
        digests = [exact_digest(text) for text in self.texts(staged)]
        if not digests:
            return
        items = np.frombuffer(b"".join(digests), "V16")
        hashes = np.frombuffer(b"".join(digest[:8] for digest in digests), np.uint64)
        yield from self.shared_out(staged, hashes, items, np.arange(len(digests), dtype=">u4"))


class _Keys(_OfPiece):
    def setup(self) -> None:
        self._signature_of = Signatures(self._settings.near_duplicate_threshold)

    @text_free
    def process(self, element: bytes) -> Iterator[tuple[bytes, bytes] | beam.pvalue.TaggedOutput]:
        staged = StagedPiece.from_bytes(element)
        signatures = [self._signature_of(text) for text in self.texts(staged)]
        if not signatures:
            return
        keys = np.array([signature.keys for signature in signatures])
        values = np.array([signature.values for signature in signatures])
        bands = np.broadcast_to(np.arange(keys.shape[1], dtype=np.uint64), keys.shape)
        # The same key means something only within the same band.
        items = np.stack([bands.ravel(), keys.ravel()], axis=1).tobytes()
        notes = np.repeat(np.arange(len(keys), dtype=">u4"), keys.shape[1])
        yield from self.shared_out(staged, keys.ravel(), np.frombuffer(items, "V16"), notes)
        payload = struct.pack(">I", len(keys)) + keys.tobytes() + values.tobytes()
        yield beam.pvalue.TaggedOutput(
            _SIGNATURES.decode(),
            (PIECE.pack(staged.file, staged.number), _SIGNATURES + payload),
        )


class _Repeats(beam.DoFn):
    """All digests of a partition → those that an earlier one equals."""

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        places, items = _gathered(element[1])
        same_as_before = np.zeros(len(items), bool)
        same_as_before[1:] = items[1:] == items[:-1]
        yield from _by_piece(places[same_as_before])


class _NotesThatMet(beam.DoFn):
    """All keys of a partition → the notes with a key that another note has."""

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        places, items = _gathered(element[1])
        same = items[1:] == items[:-1]
        met = np.zeros(len(items), bool)
        met[1:] |= same
        met[:-1] |= same
        for key, notes in _by_piece(np.unique(places[met])):
            yield key, _FOUND + notes


class _SignaturesOfThose(beam.DoFn):
    """The notes of a piece that met another, with all its signatures → theirs alone."""

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        piece, parts = element
        met: list[np.ndarray] = []
        signatures = b""
        for part in parts:
            if part[:1] == _FOUND:
                met.append(np.frombuffer(part, np.uint32, offset=1))
            else:
                signatures = part[1:]
        if met:
            notes = np.unique(np.concatenate(met))
            keys, values = _unpacked(signatures)
            head = piece + struct.pack(">I", len(notes)) + notes.tobytes()
            file, number = PIECE.unpack(piece)
            together = PIECE.pack(file, number // _PIECES_TOGETHER)
            yield together, head + keys[notes].tobytes() + values[notes].tobytes()


class _LayDown(beam.DoFn):
    """The signatures of neighbouring pieces → their place in the input and a file of them."""

    def __init__(self, staging: str) -> None:
        self._staging = staging

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[bytes]:
        together, parts = element
        path = beam_files.join(self._staging, f"signatures-{uuid.uuid4().hex}")
        with beam_files.create(path) as stream:
            # A piece's bytes begin with its key, which sorts as the input does.
            for part in sorted(parts, key=lambda part: part[: PIECE.size]):
                stream.write(_LENGTH.pack(len(part)) + part)
        yield together + path.encode()


class _Decide(beam.DoFn):
    """All signatures that matter, in the order of the input → the near-duplicates."""

    def __init__(self, settings: FormatSettings) -> None:
        self._threshold = settings.near_duplicate_threshold

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[tuple[bytes, bytes]]:
        finder = NearDuplicates(self._threshold)
        # Their places in the input come first.
        for part in _laid_down(sorted(element[1])):
            piece = part[: PIECE.size]
            (number,) = struct.unpack_from(">I", part, PIECE.size)
            start = PIECE.size + 4
            notes = np.frombuffer(part, np.uint32, number, start)
            keys, values = _unpacked(part[PIECE.size : start] + part[start + notes.nbytes :])
            repeats = [
                finder.decide(Signature(*signature)) for signature in zip(values, keys, strict=True)
            ]
            if any(repeats):
                yield piece, notes[np.array(repeats)].astype(np.uint32).tobytes()


def _laid_down(files: Iterable[bytes]) -> Iterator[bytes]:
    """Yields what `_LayDown` was given, for its answers."""
    for file in files:
        data = beam_files.read(file[PIECE.size :].decode())
        start = 0
        while start < len(data):
            begin = start + _LENGTH.size
            start = begin + _LENGTH.unpack_from(data, start)[0]
            yield data[begin:start]


def _unpacked(payload: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Returns keys uint64 [notes, bands] and values uint16 [notes, permutations]."""
    (notes,) = struct.unpack_from(">I", payload)
    values_at = len(payload) - notes * PERMUTATIONS * 2
    keys = np.frombuffer(payload[4:values_at], np.uint64).reshape(notes, -1)
    values = np.frombuffer(payload[values_at:], np.uint16).reshape(notes, PERMUTATIONS)
    return keys, values


def _gathered(parts: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all items of a partition, sorted, equal ones in the order of the input."""
    all_places, all_items = [], []
    for part in parts:
        file, piece = PIECE.unpack_from(part)
        (number,) = struct.unpack_from(">I", part, PIECE.size)
        start = PIECE.size + 4
        places = np.empty(number, _PLACE)
        places["file"], places["piece"] = file, piece
        places["note"] = np.frombuffer(part, ">u4", number, start)
        all_places.append(places)
        all_items.append(np.frombuffer(part, "V16", number, start + 4 * number))
    places, items = np.concatenate(all_places), np.concatenate(all_items).view(_ITEM)
    order = np.lexsort(
        (places["note"], places["piece"], places["file"], items["low"], items["high"])
    )
    return places[order], items[order]


def _by_piece(places: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
    """Yields for each piece its key and the notes, uint32 as bytes."""
    if not len(places):
        return
    order = np.lexsort((places["note"], places["piece"], places["file"]))
    places = places[order]
    starts = np.flatnonzero(
        np.concatenate(
            [
                [True],
                (places["file"][1:] != places["file"][:-1])
                | (places["piece"][1:] != places["piece"][:-1]),
            ]
        )
    )
    for start, end in zip(starts, [*starts[1:], len(places)], strict=True):
        first = places[start]
        key = PIECE.pack(int(first["file"]), int(first["piece"]))
        yield key, places["note"][start:end].astype(np.uint32).tobytes()
