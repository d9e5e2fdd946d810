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

from functools import partial
from pathlib import Path

from absl import flags

from bert_clinical.inference.extract import Extraction, is_notes, read_texts
from bert_clinical.inference.vector_files import VECTOR_SUFFIXES
from bert_clinical.weights import model_flags
from bert_clinical.weights.pretrained import PretrainedModel
from data_prep.common import program, settings_flags
from data_prep.common.errors import UsageError, UserError
from data_prep.common.paths import prepare_file, require_readable_file
from data_prep.common.program import ProgramFlags
from data_prep.common.progress import Progress
from data_prep.notes.sources import SUFFIXES

_CHECKPOINT_FLAGS = ("init_checkpoint", "bert_config_file", "vocab_file")
_NOTES_FLAGS = ("text_column", "id_column")


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
    settings_flags.define_tpu_flags(values)
    flags.DEFINE_boolean(
        "use_one_hot_embeddings", False, "Without effect: the numbers are the same.",
        flag_values=values,
    )  # fmt: skip
    values.section("Further flags")
    model_flags.define_model_dir(values)
    model_flags.define_checkpoint_options(values)
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
    texts = partial(read_texts, path, text_column=values.text_column, id_column=values.id_column)
    # A first pass, so that hours of work do not end at a row that cannot be read.
    count = sum(1 for _ in texts())
    if not count:
        raise UserError(f"{path}: holds no text; expected at least one")
    model = model_flags.read(values).load()
    _check_model(values, model, layers)
    extraction = Extraction(
        model=model,
        texts=texts,
        count=count,
        source=path,
        output=output,
        layers=layers,
        max_seq_length=values.max_seq_length,
        batch_size=values.batch_size,
    )
    with Progress("extract_features", "texts", total=count) as progress:
        if values.pooling:
            doc_stride = values.doc_stride or max((values.max_seq_length - 2) // 2, 1)
            extraction.write_vectors(values.pooling, doc_stride, progress)
        else:
            extraction.write_json_lines(progress)


def _check_flags(values: ProgramFlags) -> list[int]:
    """Checks what can be checked without any file; returns the layers.

    Raises:
      UsageError: a value that cannot be, or flags that cannot go together.
    """
    settings_flags.refuse_tpu_flags(values)
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
    if is_notes(values.input_file):
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
    output = prepare_file(values.output_file, "output_file")
    if output.exists() and output.samefile(path):
        raise UserError("--output_file is --input_file, which would be lost; choose another")
    return output


def _check_model(values: ProgramFlags, model: PretrainedModel, layers: list[int]) -> None:
    model_flags.require_positions(values.max_seq_length, model)
    depth = model.config.num_hidden_layers
    for layer in layers:
        if not -depth <= layer < depth:
            raise UserError(
                f"--layers names {layer}, but the model has {depth} layers; expected {-depth} to "
                f"{depth - 1}"
            )


def cli() -> None:
    """Runs the program."""
    program.run(__doc__, define_flags, main)


if __name__ == "__main__":
    cli()
