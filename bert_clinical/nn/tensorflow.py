"""Imports TensorFlow with the settings of every program here: oneDNN, no chatter, no Keras.

Programs import this module first; TensorFlow reads its settings when it is imported.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from data_prep.common.errors import UserError, one_line
from data_prep.common.imports import without

# TensorFlow's own choice is oneDNN where a processor has AVX512-VNNI or the like; a training step
# is faster by it without, too.
_SETTINGS = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_KERAS_BACKEND = "KERAS_BACKEND"


def _import_quietly() -> None:
    """Keeps off standard error what TensorFlow writes there before any setting can stop it.

    A program of ours promises that a mistake is one line.

    Keras, which TensorFlow imports along, takes two fifths of the time and may be set to import
    PyTorch, which crashes beside TensorFlow. What `tf.keras` is asked for later it imports then.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            with without("keras", "tf_keras"):
                import tensorflow  # noqa: F401
        except BaseException:
            chatter.seek(0)
            os.write(kept, chatter.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


_import_quietly()

import tensorflow as tf  # noqa: E402

__all__ = ["import_tensorflow_text", "tf", "writing"]


@functools.cache
def import_tensorflow_text() -> Any:
    """Returns tensorflow-text, which needs Keras: for TensorFlow, whatever Keras is set to."""
    given = os.environ.get(_KERAS_BACKEND)
    os.environ[_KERAS_BACKEND] = "tensorflow"
    try:
        import tensorflow_text
    finally:
        del os.environ[_KERAS_BACKEND]
        if given is not None:
            os.environ[_KERAS_BACKEND] = given
    return tensorflow_text


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
