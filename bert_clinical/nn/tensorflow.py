"""Imports TensorFlow without its start-up chatter on standard error.

Programs import this module first. TensorFlow writes some lines there before any setting can stop
it, and a program of ours promises that a mistake is one line.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile


def _import_quietly() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
            os.dup2(kept, 2)
            os.close(kept)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


_import_quietly()

import tensorflow as tf  # noqa: E402

__all__ = ["tf"]
