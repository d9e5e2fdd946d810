"""Pretraining text → TFRecords of masked examples, and what is worth knowing about them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

import bert_clinical
from bert_clinical.instances.corpus import Corpus, read_corpus
from bert_clinical.instances.maker import InstanceCounts, InstanceMaker
from bert_clinical.instances.settings import InstanceSettings
from bert_clinical.instances.spill import DEFAULT_BUFFER_BYTES, InstanceStore
from bert_clinical.tfrecords import encoding
from bert_clinical.tfrecords.files import TFRecordOutputs
from bert_clinical.tfrecords.schema import instance_width
from bert_clinical.tokenization import UNK, FullTokenizer
from bert_clinical.wordpieces.line_encoder import LineEncoder
from data_prep.canaries import record as canary_record
from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from data_prep.common.paths import listed
from data_prep.common.progress import Progress

_TOKENS_PER_COUNT = 1 << 20


class ExampleWriter:
    """Writes the examples of texts; one vocabulary, any number of outputs.

    Args:
      vocab_file: WordPiece vocabulary that `require_usable_vocab` takes.
      do_lower_case: whether it is an uncased one.
      settings: how examples are cut and masked. Several of them are made of a text in one pass,
        each as if it were the only one.
      buffer_bytes: examples beyond this size wait on disk, beside the output.
      show_progress: whether progress is shown.
      vocab_name: how sidecars call the vocabulary; `vocab_file` if None.

    Attributes:
      signatures: the `signature` of each of the settings.
    """

    def __init__(
        self,
        *,
        vocab_file: str | os.PathLike[str],
        do_lower_case: bool,
        settings: Sequence[InstanceSettings],
        buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        show_progress: bool = True,
        vocab_name: str | None = None,
    ) -> None:
        self._tokenizer = FullTokenizer(vocab_file, do_lower_case)
        self._settings = tuple(settings)
        self._buffer_bytes = buffer_bytes
        self._show_progress = show_progress
        # The wider type holds what the narrower one does: "I" sorts after "H".
        self._typecode = max(each.typecode(self._tokenizer.vocab) for each in settings)
        # Kept from one output to the next, with the words that it has seen.
        self._encoder = LineEncoder(self._tokenizer, typecode=self._typecode)
        self.signatures = tuple(
            signature(vocab_file, do_lower_case, each, vocab_name) for each in settings
        )

    def write(
        self,
        *,
        input_files: Sequence[str | os.PathLike[str]],
        output_files: Mapping[int, Sequence[str | os.PathLike[str]]],
        input_names: Sequence[str] | None = None,
        is_there: Callable[[int], dict[str, Any] | None] = lambda number: None,
    ) -> dict[int, dict[str, Any]]:
        """Writes the examples of all input files, one to each output file in turn.

        Output files and their sidecars appear when those of the same settings are complete.

        Args:
          input_files: a sentence a line, a blank line between documents.
          output_files: by the place of the settings that they follow from; other settings make
            nothing. Their folders exist; without any files the examples are only counted.
          input_names: how sidecars call the input files; their absolute paths if None.
          is_there: returns the description of the outputs of the settings at a place if they need
            not be made; called when no other program can be making them.

        Returns:
          The descriptions that stand in the sidecars, by the place of the settings.

        Raises:
          UserError: the text cannot be read, or there is none; or another program is writing the
            outputs.
        """
        # Opened first, so that an output that cannot be written is known before the work.
        with contextlib.ExitStack() as stack:
            outputs = {
                number: stack.enter_context(TFRecordOutputs(paths))
                for number, paths in output_files.items()
            }
            found = {number: is_there(number) for number in outputs}
            descriptions = {n: known for n, known in found.items() if known is not None}
            missing = [number for number in outputs if number not in descriptions]
            if not missing:
                return descriptions
            corpus = self._read(input_files)
            names = input_names or [os.path.abspath(path) for path in input_files]  # noqa: PTH100
            for number in missing:
                made = outputs[number]
                counts = self._make_and_encode(
                    corpus, self._settings[number], made.streams, output_files[number]
                )
                descriptions[number] = self._description(
                    number, corpus, counts, names, made.finish()
                )
                made.commit(descriptions[number])
        return descriptions

    def _read(self, input_files: Sequence[str | os.PathLike[str]]) -> Corpus:
        size = sum(Path(path).stat().st_size for path in input_files)
        with self._progress("reading", "bytes", size, "words") as progress:
            corpus = read_corpus(
                input_files=input_files,
                encoder=self._encoder,
                typecode=self._typecode,
                advance=lambda size, words: progress.advance(size, rate=words),
            )
        if not corpus.documents:
            raise UserError(
                f"{listed(input_files)}: found no text; expected a sentence a line "
                "and a blank line between documents"
            )
        return corpus

    def _make_and_encode(
        self,
        corpus: Corpus,
        settings: InstanceSettings,
        streams: Sequence[IO[bytes]],
        output_files: Sequence[str | os.PathLike[str]],
    ) -> InstanceCounts:
        width = instance_width(settings.max_seq_length, settings.max_predictions_per_seq)
        maker = InstanceMaker(corpus, self._tokenizer.vocab, settings)
        folder = Path(output_files[0]).parent if output_files else Path()
        with InstanceStore(
            width=width,
            dtype=np.dtype(self._typecode),
            folder=folder,
            buffer_bytes=self._buffer_bytes,
        ) as store:
            total = corpus.documents * settings.dupe_factor
            words = corpus.words / corpus.documents
            with self._progress("making examples", "documents", total, "words") as progress:
                counts = maker.make(
                    store,
                    keep=bool(streams),
                    advance=lambda done: progress.advance(done, rate=int(done * words)),
                )
            if streams:
                order = maker.final_order(counts.instances)
                with self._progress("writing", "examples", len(order), "examples") as progress:
                    for size in self._encode(settings, store, order, streams):
                        progress.advance(size)
        return counts

    def _encode(
        self,
        settings: InstanceSettings,
        store: InstanceStore,
        order: np.ndarray,
        streams: Sequence[IO[bytes]],
    ) -> Iterator[int]:
        length, predictions = settings.max_seq_length, settings.max_predictions_per_seq
        bound = encoding.framed_size_bound(length, predictions, max(self._tokenizer.vocab.values()))
        # As many examples at a time as fit a buffer of 16 MB.
        at_once = max((16 << 20) // bound, 1)
        out = np.empty(at_once * bound, np.uint8)
        written = 0
        for instances, selection in store.in_order(order):
            for number, stream in enumerate(streams):
                first = (number - written) % len(streams)
                mine = np.ascontiguousarray(selection[first :: len(streams)])
                for start in range(0, len(mine), at_once):
                    size = encoding.encode_examples(
                        instances, mine[start : start + at_once], length, predictions, out
                    )
                    stream.write(out.data[:size])
            written += len(selection)
            yield len(selection)

    def _description(
        self,
        number: int,
        corpus: Corpus,
        counts: InstanceCounts,
        input_names: Sequence[str],
        outputs: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        wordpieces = len(corpus.token_ids)
        unknown = _count(corpus.token_ids, self._tokenizer.vocab[UNK])
        canaries = canary_record.of_texts(input_names)
        return {
            "bert_clinical_version": bert_clinical.__version__,
            **self.signatures[number],
            "inputs": [
                {"path": name, "sha256": digest}
                for name, digest in zip(input_names, corpus.sha256, strict=True)
            ],
            "outputs": list(outputs),
            **({canary_record.KEY: canaries} if canaries else {}),
            "counts": {
                "documents": corpus.documents,
                "sentences": corpus.sentences,
                "words": corpus.words,
                "wordpieces": wordpieces,
                "unknown_wordpieces": unknown,
                "instances": counts.instances,
                "truncated_pairs": counts.truncated_pairs,
                "random_next": counts.random_next,
                "masked_wordpieces": counts.masked_wordpieces,
            },
            "shares": {
                "unknown": unknown / wordpieces,
                "truncated_pairs": counts.truncated_pairs / max(counts.instances, 1),
                "padding": counts.padding_share,
            },
            "sequence_lengths": {str(n): c for n, c in counts.sequence_lengths.items()},
        }

    def _progress(self, what: str, unit: str, total: int, rate_unit: str) -> Any:
        if not self._show_progress:
            return contextlib.nullcontext(_Silent())
        return Progress(what, unit, total=total, rate_unit=rate_unit)


class _Silent:
    def advance(self, count: int, *, rate: int | None = None) -> None:
        """Shows nothing."""


_COUNTED = (
    "documents", "sentences", "words", "wordpieces", "instances", "random_next",
    "masked_wordpieces",
)  # fmt: skip


def signature(
    vocab_file: str | os.PathLike[str],
    do_lower_case: bool,
    settings: InstanceSettings,
    vocab_name: str | None = None,
) -> dict[str, Any]:
    """Returns the part of a sidecar that decides, with the text, what the examples are.

    Args:
      vocab_file: WordPiece vocabulary.
      do_lower_case: whether it is an uncased one.
      settings: how examples are cut and masked.
      vocab_name: how the sidecar calls the vocabulary; `vocab_file` if None.
    """
    vocab_bytes = Path(vocab_file).read_bytes()
    return {
        "flags": {
            "vocab_file": vocab_name or os.fspath(vocab_file),
            "do_lower_case": do_lower_case,
            **asdict(settings),
        },
        "vocabulary": {
            "entries": vocab_bytes.count(b"\n") + (not vocab_bytes.endswith(b"\n")),
            "sha256": atomic_files.sha256_of_file(vocab_file),
        },
    }


def is_complete(description: Mapping[str, Any]) -> bool:
    """Returns whether a sidecar counts all that `summary` and the report tell."""
    lengths = description.get("sequence_lengths", {})
    canaries = description.get(canary_record.KEY)
    return (
        set(_COUNTED) <= set(description.get("counts", {}))
        and {"unknown", "truncated_pairs", "padding"} <= set(description.get("shares", {}))
        and all(length.isdecimal() and 0 < int(length) < 1 << 16 for length in lengths)
        and (canaries is None or canary_record.combined([canaries]) is not None)
    )


def summary(description: Mapping[str, Any]) -> list[str]:
    """Returns what a sidecar counts, as lines to read."""
    counts, shares = description["counts"], description["shares"]
    canaries = description.get(canary_record.KEY)
    return [
        f"{counts['documents']:,} documents, {counts['sentences']:,} sentences, "
        f"{counts['words']:,} words, {counts['wordpieces']:,} WordPieces "
        f"({counts['wordpieces'] / max(counts['words'], 1):.2f} a word, "
        f"{100 * shares['unknown']:.2f}% [UNK])",
        f"{counts['instances']:,} instances, {100 * shares['truncated_pairs']:.1f}% of the pairs "
        f"truncated, {100 * random_next_share(counts):.1f}% with a "
        f"random next sentence, {100 * shares['padding']:.1f}% padding, "
        f"{counts['masked_wordpieces']:,} WordPieces masked",
        *([f"canaries: {canary_record.line(canaries)}"] if canaries else []),
    ]


def random_next_share(counts: Mapping[str, int]) -> float:
    """Returns the share of a sidecar's instances whose second text is from elsewhere."""
    return counts["random_next"] / max(counts["instances"], 1)


def _count(token_ids: np.ndarray, wanted: int) -> int:
    """Counts an id without a copy of the array's size."""
    return sum(
        int(np.count_nonzero(token_ids[start : start + _TOKENS_PER_COUNT] == wanted))
        for start in range(0, len(token_ids), _TOKENS_PER_COUNT)
    )
