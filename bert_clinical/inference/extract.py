"""From texts to a file of what a model makes of them: JSON lines, or one vector for each text."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bert_clinical.inference.vector_files import json_line, row_ids_file, vector_file
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.inputs import Text, TextEncoder, TextWindows, Window, read_lines
from data_prep.common.atomic_files import atomic_write
from data_prep.common.errors import UserError
from data_prep.common.progress import Progress
from data_prep.notes.rows import BadRow, ColumnNames, Gap
from data_prep.notes.sources import SUFFIXES, open_file

_log = logging.getLogger(__name__)

_VECTORS_AT_A_TIME = 1024


def is_notes(name: str) -> bool:
    """Tells whether a file holds notes in rows rather than a text a line."""
    return name.lower().endswith(SUFFIXES)


def read_texts(
    path: Path, *, text_column: str | None = None, id_column: str | None = None
) -> Iterator[Text]:
    """Yields a file's texts: each line, or each row of notes.

    Args:
      path: its name says which of the two.
      text_column: of notes; None for the name that such files have.
      id_column: of notes; None for `row_id` or `note_id`, else rows are numbered from 0.

    Raises:
      UserError: a row or a line cannot be read.
    """
    if not is_notes(path.name):
        yield from read_lines(path)
        return
    source = open_file(path, ColumnNames(text=text_column, row_id=id_column, needs_category=False))
    has_ids = False
    for index, note in enumerate(source.rows()):
        if isinstance(note, BadRow):
            raise UserError(f"{note.place}: {note.reason}: {note.advice}")
        if isinstance(note, Gap):
            continue
        if index == 0:
            has_ids = bool(note.row_id)
        elif has_ids != bool(note.row_id):
            raise UserError(
                f"{path}: row {index + 1} has {'no' if has_ids else 'a'} row id, unlike those "
                "before it; expected one in every row, or in none"
            )
        yield Text(note.row_id or str(index), note.text)


class Extraction:
    """Writes what a model makes of texts.

    Args:
      model: needs no pooler and no head.
      texts: yields the texts, from the first on, at each call.
      count: how many there are.
      source: their file, for errors.
      output: the file to write; it gets its name when it is complete.
      layers: as indices into all layers, -1 for the last.
      max_seq_length: most WordPieces of a sequence, special ones included.
      batch_size: sequences computed at once.
    """

    def __init__(
        self,
        *,
        model: PretrainedModel,
        texts: Callable[[], Iterator[Text]],
        count: int,
        source: Path,
        output: Path,
        layers: Sequence[int],
        max_seq_length: int,
        batch_size: int,
    ) -> None:
        from bert_clinical.inference.vectors import FeatureExtractor

        self._model = model
        self._texts = texts
        self._count = count
        self._source = source
        self._output = output
        self._layers = list(layers)
        self._max_seq_length = max_seq_length
        self._extractor = FeatureExtractor(model, layers, batch_size)
        self._encoder = TextEncoder(model.tokenizer())
        self._cut_texts = self._cut_pieces = 0

    def write_json_lines(self, progress: Progress) -> None:
        """Writes a line for each text.

        Raises:
          UserError: the input has changed since its texts were counted.
        """
        windows = (self._cut(text) for text in self._texts())
        written = 0
        with atomic_write(self._output, "w") as stream:
            for index, (window, numbers) in enumerate(self._extractor.values(windows)):
                tokens = [self._model.tokens[piece] for piece in window.input_ids]
                stream.write(json_line(index, tokens, self._layers, numbers))
                written = index + 1
                progress.advance(1)
            self._require_all(written)
        self._report_cut()
        _log.info("Wrote %s: %d texts.", self._output, written)

    def write_vectors(self, pooling: str, doc_stride: int, progress: Progress) -> None:
        """Writes a vector for each text.

        Args:
          pooling: "mean" or "cls".
          doc_stride: most WordPieces from one window of a long text to the next.
          progress: counts texts.

        Raises:
          UserError: the input has changed since its texts were counted.
        """
        model = self._model
        about = {
            "model": model.source, "gelu": model.gelu, "do_lower_case": model.do_lower_case,
            "pooling": pooling, "layers": self._layers,
            "max_seq_length": self._max_seq_length, "doc_stride": doc_stride,
        }  # fmt: skip
        dimensions = model.config.hidden_size * len(self._layers)
        vectors = self._extractor.vectors(self._windows(doc_stride), pooling)
        written = num_windows = 0
        with vector_file(
            self._output, count=self._count, dimensions=dimensions, about=about
        ) as write:
            while chunk := list(itertools.islice(vectors, _VECTORS_AT_A_TIME)):
                write([text.row_id for text in chunk], np.stack([text.vector for text in chunk]))
                written += len(chunk)
                num_windows += sum(text.num_windows for text in chunk)
                progress.advance(len(chunk))
            self._require_all(written)
        self._report_cut()
        _log.info(
            "Wrote %s: %d texts in %d windows, vectors of %d numbers.",
            self._output, written, num_windows, dimensions,
        )  # fmt: skip
        if self._output.suffix.lower() == ".npy":
            _log.info("Wrote %s: their row ids.", row_ids_file(self._output))

    def _windows(self, doc_stride: int) -> Iterator[TextWindows]:
        for text in self._texts():
            if text.text_b:
                windows = [self._cut(text)]
            else:
                windows = self._encoder.windows(text, self._max_seq_length, doc_stride)
            yield TextWindows(text.row_id, windows)

    def _cut(self, text: Text) -> Window:
        window, lost = self._encoder.cut(text, self._max_seq_length)
        self._cut_texts += lost > 0
        self._cut_pieces += lost
        return window

    def _require_all(self, written: int) -> None:
        if written != self._count:
            raise UserError(
                f"{self._source}: held {self._count} texts at first and {written} later; expected "
                "a file that can be read twice and does not change meanwhile"
            )

    def _report_cut(self) -> None:
        if self._cut_texts:
            _log.info(
                "%d texts were longer than --max_seq_length=%d and lost %d WordPieces.",
                self._cut_texts, self._max_seq_length, self._cut_pieces,
            )  # fmt: skip
