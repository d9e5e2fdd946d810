"""Writes what a model makes of texts: vectors of every WordPiece, or one vector for each text.

Without --pooling it is Google's program: a text on each line of --input_file, two texts where
" ||| " stands between them, and for each a line of JSON with its WordPieces and their values in
--layers. That file quotes the text; treat it as you treat the notes.

With --pooling=mean or cls it writes one vector for each line, or for each note of a CSV or Parquet
file, to a .npy or .parquet file. Notes longer than --max_seq_length are read in overlapping
windows, and every WordPiece counts once. The order is that of the input.

Example:
  python -m bert_clinical.extract_features --model_dir=clinical_bert/transformers --pooling=mean \\
    --input_file=NOTEEVENTS.csv.gz --output_file=vectors.parquet
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import flags

from bert_clinical.inference.vector_files import (
    VECTOR_SUFFIXES,
    json_line,
    row_ids_file,
    vector_file,
)
from bert_clinical.weights.model_flags import (
    define_checkpoint_options,
    define_model_dir,
    given_case,
    load_from_model_dir,
    load_named_checkpoint,
    require_positions,
)
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.inputs import Text, TextEncoder, TextWindows, Window, read_lines
from data_prep.common import program
from data_prep.common.atomic_files import atomic_write
from data_prep.common.program import ProgramFlags, UsageError, UserError, require_readable_file
from data_prep.common.progress import Progress
from data_prep.notes.csv_source import BadRow, ColumnNames
from data_prep.notes.sources import SUFFIXES, open_file

_log = logging.getLogger(__name__)

_CHECKPOINT_FLAGS = ("init_checkpoint", "bert_config_file", "vocab_file")
_TPU_FLAGS = ("use_tpu", "master", "num_tpu_cores")
_NOTES_FLAGS = ("text_column", "id_column")
_VECTORS_AT_A_TIME = 1024


def define_flags(values: ProgramFlags) -> None:
    """Defines the program's flags on `values`."""

    def string(name: str, text: str, default: str | None = None) -> None:
        flags.DEFINE_string(name, default, text, flag_values=values)

    def integer(name: str, default: int | None, text: str, minimum: int) -> None:
        flags.DEFINE_integer(name, default, text, lower_bound=minimum, flag_values=values)

    values.section("As in Google's program")
    string("input_file", "A text, or a pair, on each line; with --pooling also notes. Required.")
    string("output_file", "JSON lines; with --pooling .npy or .parquet. Required.")
    string(
        "layers",
        "Layers by comma-separated indices, -1 for the last. With --pooling -1 when not given; "
        "the vectors of several stand one after the other.",
        "-1,-2,-3,-4",
    )
    string("bert_config_file", "The model's bert_config.json.")
    integer(
        "max_seq_length", 128,
        "Most WordPieces of a sequence, special ones included. Longer texts are cut, with "
        "--pooling divided into windows.", 3,
    )  # fmt: skip
    string("init_checkpoint", "The model: a prefix, an .index file or a folder.")
    string("vocab_file", "The vocabulary that the model was trained with.")
    flags.DEFINE_boolean(
        "do_lower_case", True,
        "Lower-case the text: False for a cased model such as BioBERT. A transformers folder says "
        "it itself.",
        flag_values=values,
    )  # fmt: skip
    integer("batch_size", 32, "Sequences computed at once.", 1)
    flags.DEFINE_boolean(
        "use_tpu", False, "Refused: this program runs on CPUs and GPUs.", flag_values=values
    )
    string("master", "Refused: belongs to TPUs.")
    integer("num_tpu_cores", None, "Refused: belongs to TPUs.", 0)
    flags.DEFINE_boolean(
        "use_one_hot_embeddings", False, "Without effect: the numbers are the same.",
        flag_values=values,
    )  # fmt: skip
    values.section("Further flags")
    define_model_dir(values)
    define_checkpoint_options(values)
    flags.DEFINE_enum(
        "pooling", None, ["mean", "cls"],
        "One vector for each text: the mean over its WordPieces with [CLS] and [SEP], each once; "
        "or [CLS] of the layer, of several windows their mean.",
        flag_values=values,
    )  # fmt: skip
    integer(
        "doc_stride", None,
        "WordPieces from one window to the next; when not given, half of what a window holds.", 1,
    )  # fmt: skip
    string("text_column", "Of the notes; text when not given.")
    string("id_column", "Of the notes; row_id or note_id when not given, else rows count from 0.")
    values.require("input_file", "output_file")


def main(values: ProgramFlags) -> None:
    """Checks the flags, reads the model, then extracts."""
    layers = _check_flags(values)
    path = require_readable_file(values.input_file, "input_file")
    output = _require_output(values, path)
    # A first pass, so that hours of work do not end at a row that cannot be read.
    count = sum(1 for _ in _texts(values, path))
    if not count:
        raise UserError(f"{path}: holds no text; expected at least one")
    model = _load_model(values)
    _check_model(values, model, layers)
    extraction = _Extraction(values, model, layers, path, output, count)
    with Progress("extract_features", "texts", total=count) as progress:
        if values.pooling:
            extraction.write_vectors(progress)
        else:
            extraction.write_json_lines(progress)


def _check_flags(values: ProgramFlags) -> list[int]:
    """Checks what can be checked without any file; returns the layers.

    Raises:
      UsageError: a value that cannot be, or flags that cannot go together.
    """
    for name in _TPU_FLAGS:
        if values[name].value:
            raise UsageError(
                f"--{name}: TPUs are not supported, this program runs on CPUs and GPUs; remove it"
            )
    if values.model_dir and values.init_checkpoint:
        raise UsageError("--model_dir and --init_checkpoint are given; expected one of them")
    missing = [name for name in _CHECKPOINT_FLAGS if values[name].value is None]
    if not values.model_dir and missing:
        raise UsageError(
            f"--{missing[0]} is missing; a model is --init_checkpoint, --bert_config_file and "
            "--vocab_file, or --model_dir"
        )
    _check_files(values)
    if values.doc_stride and not values.pooling:
        raise UsageError("--doc_stride: only --pooling reads long texts in windows; give it too")
    if values.doc_stride and values.doc_stride > values.max_seq_length - 2:
        raise UsageError(
            f"--doc_stride is {values.doc_stride}, but a window of --max_seq_length="
            f"{values.max_seq_length} holds {values.max_seq_length - 2} WordPieces of the text; "
            "expected at most that, or some would be in no window"
        )
    layers = "-1" if values.pooling and not values["layers"].present else values.layers
    try:
        return [int(layer) for layer in layers.split(",")]
    except ValueError:
        raise UsageError(
            f"--layers is {layers!r}; expected integers with commas between them, such as -1,-2"
        ) from None


def _check_files(values: ProgramFlags) -> None:
    is_vectors = values.output_file.lower().endswith(VECTOR_SUFFIXES)
    if values.pooling and not is_vectors:
        raise UsageError(
            f"--output_file={values.output_file} with --pooling; expected a name that ends in "
            f"{' or '.join(VECTOR_SUFFIXES)}"
        )
    if is_vectors and not values.pooling:
        raise UsageError(
            f"--output_file={values.output_file} needs --pooling=mean or --pooling=cls; without, "
            "the output is JSON lines"
        )
    if _is_notes(values.input_file):
        if not values.pooling:
            raise UsageError(
                f"--input_file={values.input_file} holds notes, not a text a line; give --pooling"
            )
        return
    for name in _NOTES_FLAGS:
        if values[name].value is not None:
            raise UsageError(
                f"--{name} belongs to notes; --input_file ends in none of {', '.join(SUFFIXES)}"
            )


def _require_output(values: ProgramFlags, path: Path) -> Path:
    output = Path(values.output_file)
    if not output.parent.is_dir():
        raise UserError(f"--output_file: {output.parent} is no folder; create it first")
    if output.is_dir():
        raise UserError(f"--output_file: {output} is a folder; a file was expected")
    if output.exists() and output.samefile(path):
        raise UserError("--output_file is --input_file, which would be lost; choose another")
    return output


def _is_notes(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _texts(values: ProgramFlags, path: Path) -> Iterator[Text]:
    """Yields the input's texts from the first on.

    Raises:
      UserError: a row or a line cannot be read.
    """
    if not _is_notes(path.name):
        yield from read_lines(path)
        return
    columns = ColumnNames(text=values.text_column, row_id=values.id_column, needs_category=False)
    source = open_file(path, columns)
    has_ids = False
    for index, note in enumerate(source.rows()):
        if isinstance(note, BadRow):
            raise UserError(f"{note.place}: {note.reason}: {note.advice}")
        if index == 0:
            has_ids = bool(note.row_id)
        elif has_ids != bool(note.row_id):
            raise UserError(
                f"{path}: row {index + 1} has {'no' if has_ids else 'a'} row id, unlike those "
                "before it; expected one in every row, or in none"
            )
        yield Text(note.row_id or str(index), note.text)


def _load_model(values: ProgramFlags) -> PretrainedModel:
    if values.model_dir:
        return load_from_model_dir(values, do_lower_case=given_case(values))
    return load_named_checkpoint(values)


def _check_model(values: ProgramFlags, model: PretrainedModel, layers: list[int]) -> None:
    require_positions(values, model)
    depth = model.config.num_hidden_layers
    for layer in layers:
        if not -depth <= layer < depth:
            raise UserError(
                f"--layers names {layer}, but the model has {depth} layers; expected {-depth} to "
                f"{depth - 1}"
            )


@dataclass
class _Extraction:
    """A run whose inputs are read and checked."""

    values: ProgramFlags
    model: PretrainedModel
    layers: list[int]
    path: Path
    output: Path
    count: int
    cut_texts: int = 0
    cut_pieces: int = 0

    def __post_init__(self) -> None:
        from bert_clinical.inference.vectors import FeatureExtractor

        self._extractor = FeatureExtractor(self.model, self.layers, self.values.batch_size)
        self._encoder = TextEncoder(self.model, self.values.max_seq_length)

    def write_json_lines(self, progress: Progress) -> None:
        """Writes a line for each text.

        Raises:
          UserError: the input has changed since its texts were counted.
        """
        windows = (self._cut(text) for text in _texts(self.values, self.path))
        written = 0
        with atomic_write(self.output, "w") as stream:
            for index, (window, numbers) in enumerate(self._extractor.values(windows)):
                tokens = [self.model.tokens[piece] for piece in window.input_ids]
                stream.write(json_line(index, tokens, self.layers, numbers))
                written = index + 1
                progress.advance(1)
            self._require_all(written)
        self._report_cut()
        _log.info("Wrote %s: %d texts.", self.output, written)

    def write_vectors(self, progress: Progress) -> None:
        """Writes a vector for each text.

        Raises:
          UserError: the input has changed since its texts were counted.
        """
        values, model = self.values, self.model
        doc_stride = values.doc_stride or max((values.max_seq_length - 2) // 2, 1)
        about = {
            "model": model.source, "gelu": model.gelu, "do_lower_case": model.do_lower_case,
            "pooling": values.pooling, "layers": self.layers,
            "max_seq_length": values.max_seq_length, "doc_stride": doc_stride,
        }  # fmt: skip
        dimensions = model.config.hidden_size * len(self.layers)
        vectors = self._extractor.vectors(self._windows(doc_stride), values.pooling)
        written = num_windows = 0
        with vector_file(
            self.output, count=self.count, dimensions=dimensions, about=about
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
            self.output, written, num_windows, dimensions,
        )  # fmt: skip
        if self.output.suffix.lower() == ".npy":
            _log.info("Wrote %s: their row ids.", row_ids_file(self.output))

    def _windows(self, doc_stride: int) -> Iterator[TextWindows]:
        for text in _texts(self.values, self.path):
            if text.text_b:
                yield TextWindows(text.row_id, [self._cut(text)])
            else:
                yield TextWindows(text.row_id, self._encoder.windows(text, doc_stride))

    def _cut(self, text: Text) -> Window:
        window, lost = self._encoder.cut(text)
        self.cut_texts += lost > 0
        self.cut_pieces += lost
        return window

    def _require_all(self, written: int) -> None:
        if written != self.count:
            raise UserError(
                f"{self.path}: held {self.count} texts at first and {written} later; expected a "
                "file that can be read twice and does not change meanwhile"
            )

    def _report_cut(self) -> None:
        if self.cut_texts:
            _log.info(
                "%d texts were longer than --max_seq_length=%d and lost %d WordPieces.",
                self.cut_texts, self.values.max_seq_length, self.cut_pieces,
            )  # fmt: skip


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
