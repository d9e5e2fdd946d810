"""Notes in Parquet files, a few rows at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from data_prep.common import contents
from data_prep.common.errors import UserError
from data_prep.common.paths import open_local
from data_prep.notes.rows import BadRow, ColumnNames, Note, Piece, make_note

if TYPE_CHECKING:
    import pyarrow

_MAGIC = b"PAR1"
_ROWS_AT_A_TIME = 256
_BUFFER_BYTES = 1 << 20


class ParquetSource:
    """A Parquet file with the columns of NOTEEVENTS, of MIMIC-IV-Note, or named ones.

    Memory holds some pages of the file and a few hundred rows, however large its row groups are.

    Args:
      path: the file.
      columns: which columns hold what.
      open_binary: opens the path as bytes.

    Raises:
      UserError: the file is not Parquet, is damaged, or lacks a column.
    """

    def __init__(
        self,
        path: str | Path,
        columns: ColumnNames,
        open_binary: Callable[[str], IO[bytes]] = open_local,
    ) -> None:
        import pyarrow

        content = contents.look_at(str(path), open_binary)
        if content.is_gzip or not content.head.startswith(_MAGIC):
            raise UserError(
                f"{path}: is {'gzip' if content.is_gzip else 'no Parquet'}; expected a complete "
                "Parquet file, as its name says"
            )
        self._path = str(path)
        self._open_binary = open_binary
        self._needs_subject = columns.needs_subject
        try:
            with self._open() as file:
                header = file.schema_arrow.names
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._damaged(error) from None
        places = columns.places(header, str(path))
        self._columns = {role: header[index] for role, index in places.items()}

    def rows(self) -> Iterator[Note | BadRow]:
        """Yields every row; a row number counts from 1."""
        yield from self._rows_from(0, None)

    def pieces(self) -> Iterator[Piece]:
        """Yields the row groups that have rows."""
        with self._open() as file:
            row = 1
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if rows:
                    yield Piece(group, group + 1, row, 0, 0)
                row += rows

    def rows_of(self, piece: Piece) -> Iterator[Note | BadRow]:
        """Yields the rows of a piece."""
        yield from self._rows_from(piece.row - 1, list(range(piece.start, piece.end)))

    def _rows_from(self, row: int, row_groups: list[int] | None) -> Iterator[Note | BadRow]:
        import pyarrow

        try:
            with self._open() as file:
                for batch in file.iter_batches(
                    _ROWS_AT_A_TIME,
                    row_groups=row_groups,
                    columns=sorted(set(self._columns.values())),
                ):
                    for values in self._rows_of(batch):
                        row += 1
                        place = f"{self._path}: row {row}"
                        if values is None:
                            yield BadRow(
                                place, "undecodable bytes", "a field is not UTF-8; convert it"
                            )
                        else:
                            yield make_note(values, place, needs_subject=self._needs_subject)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._damaged(error, f" after row {row}") from None

    def _rows_of(self, batch: pyarrow.RecordBatch) -> Iterator[dict[str, object] | None]:
        try:
            columns = {role: batch[name].to_pylist() for role, name in self._columns.items()}
        except UnicodeDecodeError:
            for row in range(len(batch)):
                try:
                    yield {r: batch[name][row].as_py() for r, name in self._columns.items()}
                except UnicodeDecodeError:
                    yield None
        else:
            for fields in zip(*columns.values(), strict=True):
                yield dict(zip(columns, fields, strict=True))

    @contextlib.contextmanager
    def _open(self) -> Iterator[pyarrow.parquet.ParquetFile]:
        import pyarrow.parquet

        with contextlib.ExitStack() as stack:
            # pyarrow reads a local path itself; a stream that it is given it does not close.
            is_local = self._open_binary is open_local
            source = self._path if is_local else stack.enter_context(self._open_binary(self._path))
            yield stack.enter_context(
                pyarrow.parquet.ParquetFile(
                    source,
                    buffer_size=_BUFFER_BYTES,
                    pre_buffer=False,
                    memory_map=False,
                    page_checksum_verification=True,
                )
            )

    def _damaged(self, error: Exception, where: str = "") -> UserError:
        return UserError(
            f"{self._path}: cannot be read as Parquet{where} ({type(error).__name__}); "
            "expected a complete Parquet file; fetch it again"
        )
