"""What a file is by its first bytes, whatever its name says.

gzip is read. Everything else that is no plain UTF-8 text with line feeds is named, with what to do.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, cast

from data_prep.common.errors import UserError
from data_prep.common.paths import open_local

HEAD_BYTES = 1 << 16
LONGEST_LINE = 8 << 20
"""Bytes of a line of text. The longest note known has 55,725 characters."""

_GZIP = b"\x1f\x8b\x08"
_ARCHIVES = {
    b"PK\x03\x04": ("a zip archive (or a spreadsheet)", "unpack it"),
    b"BZh": ("bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ\0": ("xz", "unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "unpack it with unzstd"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it"),
    b"PAR1": ("Parquet", "give it a name that ends in .parquet, to a program that reads notes"),
    b"%PDF-": ("PDF", "extract its text"),
    b"SQLite format 3\0": ("an SQLite database", "read it with format_notes --input_sql"),
}
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Content(NamedTuple):
    """What stands at the beginning of a file.

    Attributes:
      is_gzip: whether the file is gzip.
      head: its first bytes, decompressed; empty where it holds none.
    """

    is_gzip: bool
    head: bytes


def look_at(path: str, open_binary: Callable[[str], IO[bytes]] = open_local) -> Content:
    """Returns what stands at the beginning of a file.

    A gzip file that breaks within its first bytes has an empty head and is told by its reader.
    """
    with open_binary(path) as file:
        head = file.read(HEAD_BYTES)
    if not head.startswith(_GZIP):
        return Content(False, head)
    unpacker = zlib.decompressobj(wbits=31)
    with contextlib.suppress(zlib.error):
        return Content(True, unpacker.decompress(head, HEAD_BYTES))
    return Content(True, b"")


def is_empty(path: str, open_binary: Callable[[str], IO[bytes]] = open_local) -> bool:
    """Tells whether a file holds nothing, be it gzip or not."""
    content = look_at(path, open_binary)
    if not content.is_gzip or content.head:
        return not content.head
    try:
        with decompressed(path, open_binary) as stream:
            return not stream.read(1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False


@contextlib.contextmanager
def decompressed(
    path: str, open_binary: Callable[[str], IO[bytes]] = open_local
) -> Iterator[IO[bytes]]:
    """Opens a file for reading, gzip as what it holds."""
    is_gzip = look_at(path, open_binary).is_gzip
    with open_binary(path) as file:
        if is_gzip:
            with io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 20) as stream:
                yield cast(IO[bytes], stream)
        else:
            yield file


def require_text(path: str, content: Content, *, gzip_is_read: bool = True) -> None:
    """Refuses what is recognised as another thing than UTF-8 text with line feeds.

    Args:
      path: of the file, for the error.
      content: of the file.
      gzip_is_read: whether gzip is taken.

    Raises:
      UserError: says what the file is, and what to do.
    """
    found = _other_kind(content.head)
    if found is None and content.is_gzip and not gzip_is_read:
        found = "gzip", "unpack it with gunzip"
    if found is not None:
        what, advice = found
        raise UserError(f"{path}: is {what}; expected UTF-8 text with line feeds; {advice}")


def require_no_zlib(path: str, content: Content) -> None:
    """Refuses zlib, which TensorFlow writes with the compression type `ZLIB`.

    Raises:
      UserError: the file is zlib.
    """
    if _is_zlib(content.head):
        raise UserError(
            f"{path}: is zlib-compressed; expected TFRecords, plain or gzip; write them with the "
            "compression type GZIP or none"
        )


def raw_lines(stream: IO[bytes], path: str) -> Iterator[bytes]:
    """Yields the lines of a file with their ends; only a line feed ends one.

    Raises:
      UserError: a line is longer than `LONGEST_LINE`, or the file is a broken gzip.
    """
    number = 0
    try:
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise UserError(
                    f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MB; expected text, a "
                    "sentence or a note a line"
                )
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(
            f"{path}: the gzip file is cut short or corrupt; make or fetch it again"
        ) from None


def text_lines(path: str) -> Iterator[str]:
    """Yields the lines of a text file of this machine, gzip or not, with their ends.

    Raises:
      UserError: it is no UTF-8 text with line feeds; names the line.
    """
    require_text(path, look_at(path))
    with decompressed(path) as stream:
        for number, line in enumerate(raw_lines(stream, path), 1):
            yield decode_line(line, path, number)


def decode_line(line: bytes, path: str, number: int) -> str:
    """Returns a line as text.

    Raises:
      UserError: it is not UTF-8; names file, line and byte.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not UTF-8 at byte {error.start + 1}; convert it with iconv"
        ) from None


def _other_kind(head: bytes) -> tuple[str, str] | None:
    """Returns what a file is, and what to do, if it is none that is read."""
    for start, found in _ARCHIVES.items():
        if head.startswith(start):
            return found
    for encoding, marks in (("UTF-32", _UTF_32), ("UTF-16", _UTF_16)):
        if head.startswith(marks):
            return encoding, f"convert it with iconv -f {encoding} -t UTF-8"
    if (order := _order_of_utf_16(head)) is not None:
        return f"UTF-16{order} without a byte order mark", (
            f"convert it with iconv -f UTF-16{order} -t UTF-8"
        )
    if _is_zlib(head):
        return "zlib-compressed", "unpack it, or pack it as gzip"
    if b"\n" not in head and head.rstrip(b"\r").count(b"\r"):
        return (
            "text whose lines end with carriage returns alone",
            "convert it with tr '\\r' '\\n'",
        )
    return None


def _is_zlib(head: bytes) -> bool:
    # The first two bytes are a multiple of 31; "x^" of a text is one too.
    if len(head) < 2 or head[0] != 0x78 or int.from_bytes(head[:2], "big") % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, 64))
    except zlib.error:
        return False


# Texts hold null characters now and then.
_FEWEST_PAIRS = 8


def _order_of_utf_16(head: bytes) -> str | None:
    """Returns "LE" or "BE" for UTF-16 of Western text: every other byte is zero, none of the rest.

    None for other text.
    """
    pairs = min(len(head), 1000) // 2
    first, second = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if pairs < _FEWEST_PAIRS or min(first, second) > 0 or max(first, second) <= 0.8 * pairs:
        return None
    return "BE" if first else "LE"
