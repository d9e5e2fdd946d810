"""Opens what notes are read from, each with the module that knows it, imported only then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.note_reader import ColumnNames, CsvSource, NoteSource
from data_prep.program import UserError

if TYPE_CHECKING:
    from data_prep.sql_notes import SqlSource

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def open_file(path: str | Path, columns: ColumnNames) -> NoteSource:
    """Opens a file by its suffix and checks its columns.

    Raises:
      UserError: the suffix is not one of `SUFFIXES`, or the file cannot be read as what it says.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return CsvSource(path, columns)
    if name.endswith(".parquet"):
        from data_prep.parquet_notes import ParquetSource

        return ParquetSource(path, columns)
    raise UserError(f"{path}: found a file of another kind; expected {', '.join(SUFFIXES)}")


def open_table(url: str, table: str, columns: ColumnNames) -> SqlSource:
    """Opens a table of a database and checks its columns.

    Raises:
      UserError: see `SqlSource`.
    """
    from data_prep.sql_notes import SqlSource

    return SqlSource(url, table, columns)
