"""Name-based checkpoints as Google's programs read and write them: find, read, write.

A checkpoint is a prefix with `<prefix>.index` and `<prefix>.data-?????-of-?????`. TensorFlow is
imported by the functions that read or write tensors, so that finding one costs nothing.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.common import atomic_files, unfinished
from data_prep.common.errors import UserError, one_line

_log = logging.getLogger(__name__)

GLOBAL_STEP = "global_step"
STATE_FILE = "checkpoint"

_EXPECTED = "expected a prefix, an .index file or a folder with a checkpoint"
_TRANSFORMERS_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_DATA_FILE = re.compile(r"\.data-(\d{5})-of-(\d{5})$")
_STEP_IN_NAME = re.compile(r"-(\d+)$")


def resolve_checkpoint(path: str | os.PathLike[str]) -> str:
    """Returns the prefix of the checkpoint that a user named.

    Args:
      path: a prefix, its `.index` (or `.meta`, `.data-...`) file, or a folder: there the one that
        the file `checkpoint` names, else the newest that is complete.

    Raises:
      UserError: there is none, or one of its files is missing.
    """
    text = os.fspath(path)
    if not text:
        raise UserError(f"the checkpoint's path is empty; {_EXPECTED}")
    if Path(text).is_dir():
        latest = latest_checkpoint(text)
        if latest is not None:
            return latest
        _refuse_transformers_folder(Path(text), text)
        incomplete = len(_prefixes(Path(text)))
        found = f"{incomplete} incomplete checkpoint(s)" if incomplete else "no .index file"
        raise UserError(f"{text}: the folder holds {found}; {_EXPECTED}")
    prefix = _DATA_FILE.sub("", text)
    for suffix in (".index", ".meta"):
        prefix = prefix.removesuffix(suffix)
    if not _is_file(f"{prefix}.index"):
        _refuse_transformers_folder(Path(text).parent, text)
        if _is_file(text):
            raise UserError(f"{text}: this file is no checkpoint; {_EXPECTED}")
        raise UserError(f"{text}: found no {Path(prefix).name}.index there; {_EXPECTED}")
    _data_files(prefix)
    return prefix


def _refuse_transformers_folder(folder: Path, path: str) -> None:
    """Raises `UserError` if a path without a checkpoint is, or lies in, a transformers folder.

    Args:
      folder: to look at.
      path: as the user gave it, a folder or a name in one.
    """
    if not (folder / "config.json").is_file():
        return
    weights = [name for pattern in _TRANSFORMERS_WEIGHTS for name in folder.glob(pattern)]
    if weights and (folder == Path(path) or Path(path) in weights):
        raise UserError(
            f"{path}: this is a model of transformers and no checkpoint; make one of it: python -m "
            f"bert_clinical.convert_from_transformers --transformers_dir={folder} --output_dir=NEW"
        )


def latest_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """Returns the prefix of the newest complete checkpoint of a folder, None if it has none.

    The one that the file `checkpoint` names comes first, then the highest step in the name, then
    the youngest file. What is passed over because it is incomplete is logged.
    """
    folder = Path(folder)
    prefixes = _prefixes(folder)
    named = _named_by_state(folder)
    prefixes.sort(key=lambda prefix: (_step_in_name(prefix), _mtime(prefix)), reverse=True)
    if named in prefixes:
        prefixes.remove(named)
        prefixes.insert(0, named)
    for prefix in prefixes:
        try:
            _check_sizes(prefix)
        except UserError as error:
            _log.info("Passed over an incomplete checkpoint: %s", error)
            continue
        return prefix
    return None


def checkpoint_step(prefix: str) -> int:
    """Returns a checkpoint's step: its `global_step`, else the number in its name, else 0."""
    with _reading(prefix) as reader:
        if reader.has_tensor(GLOBAL_STEP):
            return int(reader.get_tensor(GLOBAL_STEP))
    return max(_step_in_name(prefix), 0)


def tensor_shapes(prefix: str) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor of a checkpoint by its name, sorted by name.

    Raises:
      UserError: the files are missing, truncated or corrupt.
    """
    with _reading(prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
    return {name: tuple(shapes[name]) for name in sorted(shapes)}


def read_tensors(prefix: str, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Returns tensors of a checkpoint by name, all of them when `names` is None.

    Raises:
      UserError: the files are missing, truncated or corrupt (every tensor has a checksum), or hold
        no tensor of such a name.
    """
    return dict(iterate_tensors(prefix, names))


def iterate_tensors(
    prefix: str, names: Iterable[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and tensor, one in memory at a time; otherwise as `read_tensors`."""
    with _reading(prefix) as reader:
        present = reader.get_variable_to_shape_map()
        for name in sorted(present) if names is None else names:
            if name not in present:
                raise UserError(f"{prefix}: holds no tensor {name}")
            yield name, np.asarray(reader.get_tensor(name))


def write_checkpoint(prefix: str | os.PathLike[str], tensors: Mapping[str, Any]) -> None:
    """Writes a name-based checkpoint, complete or not at all.

    Args:
      prefix: its name, as `model.ckpt-20`; a checkpoint of that name is replaced.
      tensors: NumPy arrays or TensorFlow tensors by variable name.

    Raises:
      UserError: the folder is missing or cannot be written, or the disk is full; an older
        checkpoint of the same name is then as it was.
    """
    from bert_clinical.nn.tensorflow import tf

    prefix = os.fspath(prefix)
    folder = Path(prefix).parent
    names = sorted(tensors)
    values = [tf.convert_to_tensor(tensors[name]) for name in names]
    needed = sum(value.dtype.size * int(np.prod(value.shape)) for value in values)
    if not folder.is_dir():
        raise UserError(f"{prefix}: there is no folder {folder} to write to; create it")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(_no_space(prefix, needed, free))
    try:
        with atomic_files.partial_folder(Path(prefix)) as partial:
            tf.raw_ops.SaveV2(
                prefix=str(partial / Path(prefix).name),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=values,
            )
            for entry in partial.iterdir():
                atomic_files.sync(entry)
            # Without its index the old checkpoint is plainly absent; new data under an old index
            # would pass for one until a checksum fails.
            Path(f"{prefix}.index").unlink(missing_ok=True)
            for suffix in (".data-00000-of-00001", ".index"):
                target = Path(prefix + suffix)
                atomic_files.replace(partial / target.name, target)
    except tf.errors.OpError as error:
        free = shutil.disk_usage(folder).free
        if "No space left" in error.message or free < needed:
            raise UserError(_no_space(prefix, needed, free)) from None
        raise UserError(
            f"{prefix}: the checkpoint of {needed:,} bytes could not be written: "
            f"{one_line(error.message)}; check who may write there"
        ) from None


def remove_unfinished(folder: str | os.PathLike[str], start_of_name: str) -> None:
    """Removes what kills in the midst of writing or removing checkpoints have left.

    Args:
      folder: where the checkpoints lie.
      start_of_name: of their prefixes; others are left alone.

    Raises:
      UserError: another program is writing one of them.
    """
    folder = Path(folder)
    for path in folder.iterdir():
        name = atomic_files.final_name(path.name)
        if name is not None and name.startswith(start_of_name):
            atomic_files.remove_leftovers(folder / name)
        elif path.name.startswith(start_of_name) and _DATA_FILE.search(path.name):
            prefix = _DATA_FILE.sub("", path.name)
            if not (folder / f"{prefix}.index").exists():
                path.unlink()


def update_checkpoint_state(
    folder: str | os.PathLike[str], latest_prefix: str, all_prefixes: Sequence[str]
) -> None:
    """Writes the file `checkpoint`, which names the latest one and all that are kept.

    Args:
      folder: where the checkpoints lie.
      latest_prefix: the newest one's prefix; only its last part is written, so that the folder can
        be moved.
      all_prefixes: all that are kept, oldest first.
    """
    lines = [f'model_checkpoint_path: "{_escaped(latest_prefix)}"']
    lines += [f'all_model_checkpoint_paths: "{_escaped(prefix)}"' for prefix in all_prefixes]
    with atomic_files.atomic_write(Path(folder) / STATE_FILE, "w") as stream:
        stream.write("\n".join(lines) + "\n")


@contextmanager
def _reading(prefix: str) -> Iterator[Any]:
    """Opens a checkpoint; what goes wrong while reading becomes one line."""
    from bert_clinical.nn.tensorflow import tf

    try:
        with _plain_path(prefix) as path:
            yield tf.train.load_checkpoint(path)
    except (tf.errors.OpError, IndexError, RuntimeError, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, tf.errors.OpError) else str(error)
        raise UserError(
            f"{prefix}: the checkpoint cannot be read, it is incomplete or corrupt "
            f"({one_line(reason)}); copy or download it again"
        ) from None


@contextmanager
def _plain_path(prefix: str) -> Iterator[str]:
    """Yields a path of the checkpoint that TensorFlow does not take for a pattern."""
    if not glob.has_magic(prefix):
        yield prefix
        return
    with unfinished.temporary_folder() as folder:
        for path in (Path(f"{prefix}.index"), *_data_files(prefix)):
            suffix = path.name.removeprefix(Path(prefix).name)
            (folder / f"m{suffix}").symlink_to(path.absolute())
        yield str(folder / "m")


def _check_sizes(prefix: str) -> None:
    """Raises `UserError` unless all data files are there and large enough for the tensors."""
    found = sum(path.stat().st_size for path in _data_files(prefix))
    with _reading(prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
    expected = sum(
        dtypes[name].size * int(np.prod(shapes[name]))
        for name in shapes
        if dtypes[name].is_numpy_compatible and dtypes[name].name != "string"
    )
    if found < expected:
        raise UserError(f"{prefix}: its data has {found:,} bytes, expected {expected:,}")


def _data_files(prefix: str) -> list[Path]:
    """Returns all data files of a checkpoint, or raises if one is missing."""
    folder, name = Path(prefix).parent, Path(prefix).name
    found = {
        int(match[1]): (path, int(match[2]))
        for path in folder.iterdir()
        if path.name.startswith(f"{name}.data-") and (match := _DATA_FILE.search(path.name))
    }
    total = max((count for _, count in found.values()), default=1)
    for shard in range(total):
        if shard not in found:
            raise UserError(
                f"{prefix}: found {name}.index without {name}.data-{shard:05d}-of-{total:05d}; "
                "copy or download it again"
            )
    return [path for path, _ in found.values()]


def _prefixes(folder: Path) -> list[str]:
    return [str(path.with_suffix("")) for path in folder.glob("*.index")]


def _named_by_state(folder: Path) -> str | None:
    """Returns the prefix that the file `checkpoint` names, looked for in its own folder."""
    try:
        text = (folder / STATE_FILE).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, IsADirectoryError):
        return None
    named = re.search(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    if named is None:
        return None
    return str(folder / Path(re.sub(r"\\(.)", r"\1", named[1])).name)


def _escaped(prefix: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", Path(prefix).name)


def _step_in_name(prefix: str) -> int:
    number = _STEP_IN_NAME.search(Path(prefix).name)
    return int(number[1]) if number else -1


def _mtime(prefix: str) -> float:
    return Path(f"{prefix}.index").stat().st_mtime


def _is_file(path: str) -> bool:
    return Path(path).is_file()


def _no_space(prefix: str, needed: int, free: int) -> str:
    return (
        f"{prefix}: the checkpoint needs {needed:,} bytes and {free:,} are free; "
        "free some space and run the same command again"
    )
