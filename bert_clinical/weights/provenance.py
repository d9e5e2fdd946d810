"""What the folder of a checkpoint records of its training, and whether flags agree with it."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_clinical.weights.checkpoint import checkpoint_step, resolve_checkpoint
from data_prep.canaries import record as canary_record
from data_prep.common.atomic_files import sha256_of_file
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.output_folder import RECORD_FILE, read_record

RUN_FILE = "pretraining_run.json"
BEST_FILE = "best_checkpoint.json"

WEIGHTS = "weights"
"""In a record's evaluation: the `checkpoint_fingerprint` of what was evaluated."""

TRAINING_FILES = "training_files"
"""In a record: the files that were trained on, named as in its `data`."""

PARENT = "parent"
"""Under which a record tells of the checkpoint that its weights began from."""

EXTENSION = "extension"
"""Under which `extend_vocab` records what it added to a vocabulary."""


def read_run(folder: Path) -> dict[str, Any]:
    """Returns what `run_pretraining` left beside its checkpoints, an empty dict where nothing.

    Raises:
      UserError: the file is there but broken.
    """
    path = folder / RUN_FILE
    return read_json_object(path) if path.is_file() else {}


def read_extension(folder: Path) -> dict[str, Any]:
    """Returns what `extend_vocab` left beside its checkpoint, an empty dict where nothing."""
    made = read_record(folder)
    return {name: made[name] for name in (EXTENSION, PARENT) if EXTENSION in made and name in made}


def earlier_runs(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what a record tells of the runs before its own, the first of them first.

    A checkpoint that no run of this project made, such as BioBERT's, is none of them.
    """
    return [parent for parent in _parents(run) if as_object(parent.get("flags"))]


def _parents(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what a record tells of all checkpoints before its own, the first of them first."""
    found = []
    parent = as_object(run.get(PARENT))
    while parent:
        found.append(parent)
        parent = as_object(parent.get(PARENT))
    return found[::-1]


def parent_of(prefix: str) -> dict[str, Any]:
    """Returns what a record says of the checkpoint that weights begin from.

    Where a run made it, that run's flags and its own parent stand in it too, and where it was
    given new entries, these and whose: a record tells all of a model's past, wherever the earlier
    folders are by then.

    Args:
      prefix: the checkpoint.

    Raises:
      UserError: the record beside it is broken.
    """
    path = Path(prefix)
    told = read_run(path.parent) or read_extension(path.parent)
    return {
        "folder": str(path.parent),
        "checkpoint": path.name,
        "step": checkpoint_step(prefix),
        "fingerprint": checkpoint_fingerprint(prefix),
        **{
            name: told[name]
            for name in ("flags", canary_record.KEY, EXTENSION, PARENT)
            if name in told
        },
    }


def extensions(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what a record tells of entries that its vocabulary was given, the first first."""
    return [found for one in (*_parents(run), run) if (found := as_object(one.get(EXTENSION)))]


def checkpoint_fingerprint(prefix: str) -> str:
    """Returns what tells a checkpoint's content: its index holds the checksum of every tensor."""
    return "sha256 " + sha256_of_file(f"{prefix}.index")[:12]


def was_evaluated(run: Mapping[str, Any], prefix: str) -> bool:
    """Tells whether a record's evaluation may be of this checkpoint, and not of another's weights.

    Args:
      run: the record; one of an older version does not say of which weights it is.
      prefix: the checkpoint's.
    """
    weights = as_object(run.get("evaluation")).get(WEIGHTS)
    return weights is None or weights == checkpoint_fingerprint(prefix)


def best_checkpoint(folder: Path) -> str:
    """Returns the prefix of the checkpoint of a run that was the best on held-out data.

    Raises:
      UserError: the folder records none, or it is gone.
    """
    path = folder / BEST_FILE
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no {BEST_FILE}; run_pretraining keeps the best checkpoint with "
            "--eval_every and --eval_input_file; leave out --best for the latest"
        )
    name = read_json_object(path).get("checkpoint")
    if not isinstance(name, str) or Path(name).name != name:
        raise UserError(f"{path}: names no checkpoint of this folder; copy it again")
    return resolve_checkpoint(folder / name)


def data_sidecars(run: Mapping[str, Any], *, training_only: bool = False) -> list[dict[str, Any]]:
    """Returns the descriptions of the TFRecord files that a run read.

    Args:
      run: its record.
      training_only: without those of files that it only evaluated on.
    """
    sidecars = as_object(run.get("data"))
    names = list(sidecars)
    if training_only:
        names = _trained_on(run, names)
    return [sidecars[name] for name in names if isinstance(sidecars[name], dict)]


def _trained_on(run: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Returns which of the files of a run were not only evaluated on."""
    files = run.get(TRAINING_FILES)
    if isinstance(files, list):
        known = set(map(str, files))
        return [name for name in names if name in known]
    # An older record has the flag alone.
    flag = as_object(run.get("flags")).get("input_file")
    patterns = flag.split(",") if isinstance(flag, str) else ["*"]
    return [name for name in names if any(fnmatch.fnmatch(name, p) or name == p for p in patterns)]


def canaries_in(sidecars: Iterable[Any]) -> dict[str, Any]:
    """Returns what a record says where examples were made of texts with canaries, else nothing.

    Args:
      sidecars: of the examples' files.
    """
    # The outputs of one run share a description, which counts the texts of all of them.
    distinct = {json.dumps(s, sort_keys=True): s for s in sidecars if isinstance(s, dict)}
    found = canary_record.combined(s.get(canary_record.KEY) for s in distinct.values())
    return {canary_record.KEY: found} if found else {}


def recorded_canaries(source: Path) -> list[str] | None:
    """Returns the names of the sets of canaries in the text of a training, by its record.

    Args:
      source: a checkpoint's prefix, or a folder.

    Returns:
      The names; None where no record lies beside the checkpoint.
    """
    folder = source if source.is_dir() else source.parent
    run = read_run(folder)
    earlier = earlier_runs(run or read_extension(folder))
    if not run and not earlier:
        return None
    sets: dict[str, Any] = {}
    for trained in (*earlier, run):
        sets |= as_object(as_object(trained.get(canary_record.KEY)).get(canary_record.SETS))
    return list(sets)


def recorded_gelu(folder: Path) -> tuple[str, Path] | None:
    """Returns the form of GELU that a checkpoint's folder says it was trained with, and where.

    `run_pretraining` writes it to `pretraining_run.json`, `convert_from_transformers` to
    `conversion.json`.
    """
    run = read_run(folder)
    conversion = folder / RECORD_FILE
    candidates = (
        (as_object(run.get("flags")).get("gelu"), folder / RUN_FILE),
        (read_json_object(conversion).get("gelu") if conversion.is_file() else None, conversion),
    )
    for value, path in candidates:
        if value in ("tanh", "erf"):
            return str(value), path
    return None


def recorded_length(folder: Path, positions: int) -> int | None:
    """Returns the longest sequence in WordPieces that a checkpoint's folder says it was trained on.

    Of several runs, each from the checkpoint of the one before, it is that of all of them.

    Args:
      folder: of the checkpoint.
      positions: of the model.

    Returns:
      None where no file says it, or it is all that the model takes.
    """
    conversion = folder / RECORD_FILE
    run = read_run(folder)
    trained = [as_object(each.get("flags")) for each in (*earlier_runs(run), run)]
    for records in (trained, [read_json_object(conversion)] if conversion.is_file() else []):
        found = [record.get("max_seq_length") for record in records]
        lengths = [length for length in found if isinstance(length, int) and length > 0]
        if lengths:
            return max(lengths) if max(lengths) < positions else None
    return None


def require_recorded_gelu(folder: Path, gelu: str | None) -> str | None:
    """Returns the form of GELU to compute a checkpoint with.

    Args:
      folder: of the checkpoint.
      gelu: "tanh" or "erf" as the user gave it; None for what the folder records.

    Returns:
      `gelu`, else what the folder records; None if neither says it.

    Raises:
      UserError: the folder says that the model was trained with the other form.
    """
    recorded = recorded_gelu(folder)
    if gelu is None:
        return recorded[0] if recorded else None
    if recorded and recorded[0] != gelu:
        raise UserError(
            f"--gelu={gelu}, but {recorded[1]} says that the model was trained with "
            f"{recorded[0]}; pass --gelu={recorded[0]}"
        )
    return gelu


def require_recorded_vocabulary(folder: Path, vocab_file: Path, do_lower_case: bool) -> None:
    """Raises `UserError` if the run's examples were made with another vocabulary or casing."""
    for sidecar in data_sidecars(read_run(folder)):
        lower = as_object(sidecar.get("flags")).get("do_lower_case")
        if isinstance(lower, bool) and lower != do_lower_case:
            raise UserError(
                f"--do_lower_case={do_lower_case}, but {folder / RUN_FILE} says that the model's "
                f"examples were made with {lower}; pass --do_lower_case={lower}"
            )
        digest = as_object(sidecar.get("vocabulary")).get("sha256")
        if isinstance(digest, str) and digest != sha256_of_file(vocab_file):
            raise UserError(
                f"--vocab_file: {vocab_file} is another file than {folder / RUN_FILE} says the "
                "model's examples were made with (by its SHA-256); give that one"
            )


def as_object(value: Any) -> dict[str, Any]:
    """Returns a JSON object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}
