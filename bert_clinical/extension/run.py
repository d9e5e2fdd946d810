"""Extends a vocabulary and its model, from text to a folder to start training from."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical import __version__
from bert_clinical.extension.report import REPORT_FILE, Extension, write_report
from bert_clinical.extension.rows import extend_weights, place_entries
from bert_clinical.extension.selection import Entry, choose_entries
from bert_clinical.extension.settings import EXTEND_VOCAB, ExtensionSettings
from bert_clinical.extension.text_sizes import measure
from bert_clinical.extension.word_counts import WordCounts, count_words
from bert_clinical.weights.checkpoint import write_checkpoint
from bert_clinical.weights.googles_format import (
    CHECKPOINT_NAME,
    CONFIG_FILE,
    require_googles_rules,
    require_tied,
)
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.weights.provenance import EXTENSION, PARENT, parent_of, recorded_gelu
from bert_clinical.weights.transformers_tokenizer import VOCAB_FILE
from data_prep.common.errors import UserError
from data_prep.common.output_folder import complete_folder
from data_prep.common.patients import MANY_PATIENTS
from data_prep.common.progress import Progress

_log = logging.getLogger(__name__)

ENTRIES_FILE = "new_entries.csv"


def extend_vocab(
    *,
    model: PretrainedModel,
    input_files: Sequence[Path],
    settings: ExtensionSettings,
    output_dir: Path,
) -> Extension:
    """Writes a model with more entries as `bert_model.ckpt`, `bert_config.json` and `vocab.txt`.

    Args:
      model: with its heads, as far as it has them.
      input_files: pretraining text.
      settings: what the entries follow from.
      output_dir: appears only when everything is written.

    Returns:
      What was made.

    Raises:
      UserError: the model cannot stand in Google's format, the text cannot be read, no entry would
        save anything, or the output cannot be written.
    """
    source = Path(model.source)
    require_tied(model.output_embeddings is None, source)
    require_googles_rules(model.tokens, model.rules, source)
    if not model.has_pooler():
        raise UserError(
            f"{source}: the model has no pooler (as BertForMaskedLM is saved); give it one with "
            "convert_from_transformers --init_missing_pooler, then extend what that writes"
        )
    record: dict[str, Any] = {"version": __version__, **_told_by(model)}
    with complete_folder(output_dir, EXTEND_VOCAB, record) as folder:
        counts = _count(input_files, model, settings)
        words = _words_of_many(counts, settings)
        vocab = {token: number for number, token in enumerate(model.tokens)}
        entries = _choose(words, vocab, settings)
        extended = place_entries(
            model.tokens, entries, model.config.vocab_size, fill_unused=settings.fill_unused
        )
        new = {token: number for number, token in enumerate(extended.tokens)}
        extension = Extension(
            config=model.config,
            entries=entries,
            extended=extended,
            changes=measure(counts, vocab, new),
            words=len(counts.words),
            used_words=len(words),
            used_share=sum(words.values()) / int(counts.totals().sum()),
            forgotten=sum(counts.forgotten.values()),
            documents=counts.documents,
            by_patient=counts.by_patient,
            settings=settings,
        )
        record[EXTENSION] = _record(extension, input_files)
        _write(folder, model, extension)
    _tell(extension)
    return extension


def _told_by(model: PretrainedModel) -> dict[str, Any]:
    """Returns what a folder with a checkpoint tells of its model."""
    source = Path(model.source)
    told: dict[str, Any] = {"do_lower_case": model.do_lower_case}
    if model.config.activation_name() == "gelu":
        # Of a checkpoint the form is known only if its folder tells it.
        recorded = recorded_gelu(source.parent)
        if source.is_dir() or recorded:
            told["gelu"] = model.gelu
    if model.trained_length is not None:
        told["max_seq_length"] = model.trained_length
    if not source.is_dir():
        told[PARENT] = parent_of(model.source)
    return told


def _count(
    files: Sequence[Path], model: PretrainedModel, settings: ExtensionSettings
) -> WordCounts:
    size = sum(path.stat().st_size for path in files)
    with Progress("counting words", "bytes", total=size, rate_unit="words") as progress:
        counts = count_words(
            files,
            do_lower_case=model.do_lower_case,
            most_carriers=settings.min_documents,
            advance=lambda size, words: progress.advance(size, rate=words),
        )
    if not counts.words:
        raise UserError("--input_file: found no words; expected text, a sentence a line")
    return counts


def _words_of_many(counts: WordCounts, settings: ExtensionSettings) -> dict[str, int]:
    totals = counts.totals()
    (numbers,) = np.nonzero(counts.carriers >= settings.min_documents)
    return {counts.words[number]: int(totals[number]) for number in numbers}


def _choose(
    words: Mapping[str, int], vocab: Mapping[str, int], settings: ExtensionSettings
) -> list[Entry]:
    with Progress("choosing", "entries", total=settings.num_new_entries) as progress:
        entries = choose_entries(
            words, vocab, settings.num_new_entries, advance=lambda count: progress.advance(count)
        )
    if not entries:
        raise UserError(
            f"--input_file: no entry would save anything: {len(words):,} words stand with at least "
            f"--min_documents={settings.min_documents}, and none of them is split; give more text, "
            "or lower it"
        )
    return entries


def _record(extension: Extension, files: Sequence[Path]) -> dict[str, Any]:
    before, after = extension.change()
    return {
        **vars(extension.settings),
        "inputs": [{"name": path.name, "size_bytes": path.stat().st_size} for path in files],
        "counted": extension.carriers(),
        "vocab_size_before": extension.config.vocab_size,
        "vocab_size": extension.extended.vocab_size,
        "new_entries": len(extension.entries),
        "in_places_of_unused": extension.extended.filled,
        "words": before.words,
        "word_pieces_before": before.pieces,
        "word_pieces": after.pieces,
    }


def _write(folder: Path, model: PretrainedModel, extension: Extension) -> None:
    extended, entries = extension.extended, extension.entries
    weights = extend_weights(
        model.weights, model.tokens, entries, extended, model.config, extension.settings
    )
    write_checkpoint(folder / CHECKPOINT_NAME, weights)
    (folder / CONFIG_FILE).write_text(extension.larger_config().to_json_string(), "utf-8")
    (folder / VOCAB_FILE).write_text("".join(f"{token}\n" for token in extended.tokens), "utf-8")
    with (folder / ENTRIES_FILE).open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "entry", "spelt_by", "saved"])
        for number, entry in zip(extended.ids, entries, strict=True):
            rows.writerow([number, entry.text, " ".join(entry.spelt_by), entry.saved])
    write_report(folder / REPORT_FILE, extension)


def _tell(extension: Extension) -> None:
    if not extension.by_patient:
        _log.warning(
            "Documents are counted, not patients, whose they are being unknown: the name of a "
            "patient with %d documents or more may become an entry; format_notes --patients_files "
            "writes what is missing beside each text", extension.settings.min_documents,
        )  # fmt: skip
    if extension.settings.min_documents < MANY_PATIENTS:
        _log.warning(
            "--min_documents is %d; what so few share may be a name; expected at least %d for "
            "notes of patients", extension.settings.min_documents, MANY_PATIENTS,
        )  # fmt: skip
    before, after = extension.change()
    asked, found = extension.settings.num_new_entries, len(extension.entries)
    _log.info(
        "%s words, %s different, of which %s stand with at least %d %s",
        f"{before.words:,}", f"{extension.words:,}", f"{extension.used_words:,}",
        extension.settings.min_documents, extension.carriers(),
    )  # fmt: skip
    if found < asked:
        _log.info("The text yields %s entries of %s", f"{found:,}", f"{asked:,}")
    _log.info(
        "WordPieces a word: %.3f before, %.3f after; vocabulary: %s entries",
        before.per_word(), after.per_word(), f"{len(extension.extended.tokens):,}",
    )  # fmt: skip
