"""What the steps of pipelines share: errors without text, problems of the data, counters.

Elements are opaque bytes, so that nothing of Beam's can print a note: no coder, no check of types,
no sampling of elements.
"""

from __future__ import annotations

import functools
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import apache_beam as beam

from data_prep.common import files as beam_files
from data_prep.common.errors import UserError, internal_error_message, os_error_message

_Step = TypeVar("_Step", bound=type[beam.DoFn])

_ONE_KEY = b""
# Runners make an error anew of its message, and so mark it again: the innermost mark counts.
_MARKED = re.compile(r"bert-clinical<<((?:(?!bert-clinical<<).)*?)>>", re.DOTALL)
# zlib's fastest: text becomes a third at the cost of some hundredths of what formatting takes.
_LEVEL = 1


class StepError(RuntimeError):
    """A step failed; the message holds no text of a note, and can be found in a runner's error."""

    def __init__(self, message: str) -> None:
        super().__init__(f"bert-clinical<<{message}>>")


def find_message(failure: str) -> str | None:
    """Returns the message of a `StepError` within whatever a runner made of it."""
    found = _MARKED.search(failure)
    return found[1] if found else None


def text_free(method: Callable[..., Iterable[Any] | None]) -> Callable[..., Iterator[Any]]:
    """Makes a method of a step one whose exceptions quote nothing."""

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        warnings.simplefilter("ignore")
        try:
            yield from method(*args, **kwargs) or ()
        except UserError as error:
            raise StepError(str(error)) from None
        except OSError as error:
            raise StepError(os_error_message(error)) from None
        except Exception as error:  # noqa: BLE001
            raise StepError(internal_error_message(error)) from None

    return wrapped


def pack(value: Any) -> bytes:
    """Returns a JSON value as bytes that show nothing."""
    return zlib.compress(json.dumps(value, ensure_ascii=False).encode(), _LEVEL)


def unpack(data: bytes) -> Any:
    """Returns what `pack` was given."""
    return json.loads(zlib.decompress(data))


def compress(data: bytes) -> bytes:
    """Returns bytes that show nothing."""
    return zlib.compress(data, _LEVEL)


def count(namespace: str, counts: dict[str, int]) -> None:
    """Adds to the counters that a runner shows."""
    for name, number in counts.items():
        if number:
            beam.metrics.Metrics.counter(namespace, name).inc(number)


class ToOneKey(beam.PTransform):
    """Brings all elements, few and small ones, together: bytes → (b"", all of them)."""

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        """Builds the step."""
        return (
            elements
            | "Key" >> beam.Map(_with_one_key).with_output_types(tuple[bytes, bytes])
            | "Together" >> beam.GroupByKey()
        )


class WriteJson(beam.DoFn):
    """Writes what `combine` makes of all elements as JSON, complete or not at all."""

    def __init__(self, path: str, combine: Callable[[Iterable[bytes]], Any]) -> None:
        self._path = path
        self._combine = combine

    @text_free
    def process(self, element: tuple[bytes, Iterable[bytes]]) -> None:
        """Writes the file."""
        beam_files.write(self._path, json.dumps(self._combine(element[1])).encode())


def _with_one_key(element: bytes) -> tuple[bytes, bytes]:
    return _ONE_KEY, element
