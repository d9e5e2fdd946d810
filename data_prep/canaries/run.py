"""Plants canaries in a text, as `plant_canaries` does."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from data_prep.canaries import record
from data_prep.canaries.canary import (
    PROGRAM,
    CanarySettings,
    draw_canaries,
    require_no_others,
    write_canaries,
)
from data_prep.canaries.planting import count_documents, plan, planted, sentences_of
from data_prep.common import atomic_files, contents
from data_prep.common.atomic_files import PartialFile
from data_prep.common.documents import patients_file
from data_prep.common.errors import UserError
from data_prep.common.own_files import MANIFEST_NAME
from data_prep.common.paths import prepare_file
from data_prep.common.progress import Progress

_log = logging.getLogger(__name__)


def plant_canaries(
    *, input_file: Path, output_file: Path, canaries_file: Path, settings: CanarySettings
) -> None:
    """Writes a text with canaries, the file that knows them, and the manifest that says so.

    Memory holds a document at a time.

    Args:
      input_file: pretraining text: a sentence a line, a blank line between documents.
      output_file: the same text with the canaries.
      canaries_file: what an audit needs; only its owner can read it.
      settings: which canaries.

    Raises:
      UserError: there are too few documents, or a file is in the way.
    """
    _require_distinct(input_file, output_file, canaries_file)
    canaries = draw_canaries(settings)
    require_no_others(canaries_file, canaries)
    _require_none_planted(input_file)
    contents.require_text(str(input_file), contents.look_at(str(input_file)))
    with _lines(input_file) as lines:
        documents = count_documents(lines)
    if not documents:
        raise UserError(
            f"{input_file}: found no text; expected a sentence a line and a blank line between "
            "documents"
        )
    places = plan(canaries.canaries, {output_file.name: documents}, settings.random_seed)
    manifest = _manifest(input_file, output_file, settings)
    with PartialFile(output_file) as output:
        with (
            _lines(input_file) as lines,
            Progress("plant_canaries", "lines") as progress,
            atomic_files.naming(output_file),
        ):
            for line in planted(lines, places[output_file.name]):
                output.stream.write(line)
                progress.advance(1)
        output.finish()
        write_canaries(canaries_file, canaries)
        # Before the text, so that no text with canaries ever stands without the word of it.
        sentences = sentences_of(places[output_file.name])
        summaries = {output_file.name: record.summary(canaries, sentences)}
        atomic_files.write_json(
            output_file.parent / MANIFEST_NAME, record.with_canaries(manifest, summaries)
        )
        _keep_patients(input_file, output_file)
        output.commit()
    _log.info(
        "%s: %d sentence(s) planted in a text of %d documents; %s alone knows them: keep it as you "
        "keep the notes, and give it to audit_memorization",
        output_file, sentences, documents, canaries_file,
    )  # fmt: skip


def _require_none_planted(input_file: Path) -> None:
    if record.of_text(str(input_file)) is not None:
        raise UserError(
            f"--input_file: {input_file} holds canaries already, by the manifest beside it; give "
            "the text before they were planted, and all that is to be planted at once"
        )


def _keep_patients(input_file: Path, output_file: Path) -> None:
    """Copies the file that says whose each document is, if the text has one.

    No document changes its place.
    """
    source, target = map(patients_file, (input_file, output_file))
    if not source.is_file():
        target.unlink(missing_ok=True)
        return
    with source.open("rb") as patients, atomic_files.atomic_write(target) as copy:
        shutil.copyfileobj(patients, copy)


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    """Opens a text, gzip or not, as lines with their ends."""
    with contents.decompressed(str(path)) as stream:
        yield contents.raw_lines(stream, str(path))


def _require_distinct(input_file: Path, output_file: Path, canaries_file: Path) -> None:
    outputs = {"output_file": output_file, "canaries_file": canaries_file}
    manifest = output_file.parent / MANIFEST_NAME
    taken = {input_file.resolve(): "--input_file", manifest.resolve(): "the manifest"}
    for name, path in outputs.items():
        if path.resolve() in taken:
            raise UserError(f"--{name}: {path} is {taken[path.resolve()]} too; choose another")
        taken[path.resolve()] = f"--{name}"
        prepare_file(path, name)


def _manifest(input_file: Path, output_file: Path, settings: CanarySettings) -> dict[str, object]:
    """Returns the manifest of the output's folder, or that of the input's, which it goes on."""
    there = record.read_manifest(output_file.parent)
    if there:
        return there
    source = record.read_manifest(input_file.parent)
    return {
        **source,
        "program": PROGRAM,
        "planted_in": {
            "name": input_file.name,
            "sha256": atomic_files.sha256_of_file(input_file),
            "flags": asdict(settings),
        },
        "outputs": [],
    }
