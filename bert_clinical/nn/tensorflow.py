"""Imports TensorFlow with the settings of every program here: oneDNN, no chatter, no Keras.

Programs import this module first; TensorFlow reads its settings when it is imported.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from data_prep.common.errors import UserError, one_line

# TensorFlow's own choice is oneDNN where a processor has AVX512-VNNI or the like; a training step
# is faster by it without, too.
_SETTINGS = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class _WithoutKeras(MetaPathFinder):
    """Refuses Keras to TensorFlow, which imports it along and goes on where it cannot.

    Nothing here needs it, it takes two fifths of the time that an import of TensorFlow takes, and
    by its settings it may import PyTorch, which crashes beside TensorFlow. What `tf.keras` is asked
    for later it imports then.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds Keras as Python does: TensorFlow looks where it lies."""
        if name not in ("keras", "tf_keras"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._refuse  # type: ignore[method-assign]
        return spec

    def _refuse(self, module: ModuleType) -> None:
        raise ImportError(f"{module.__name__} is not imported along with TensorFlow")


def _import_quietly() -> None:
    """Keeps off standard error what TensorFlow writes there before any setting can stop it.

    A program of ours promises that a mistake is one line.
    """
    without_keras = _WithoutKeras()
    sys.meta_path.insert(0, without_keras)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            chatter.seek(0)
            os.write(kept, chatter.read())
            raise
        finally:
            sys.meta_path.remove(without_keras)
            os.dup2(kept, 2)
            os.close(kept)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


_import_quietly()

import tensorflow as tf  # noqa: E402

__all__ = ["tf", "writing"]


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Says in one line what TensorFlow could not write in the block.

    Raises:
      UserError: the disk is full, or the like.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise UserError(
            f"{os.fspath(path)}: could not be written: {one_line(error.message)}; check the space "
            "there and who may write, and run the same command again"
        ) from None
