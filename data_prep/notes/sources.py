"""Opens what notes are read from, each with the module that knows it, imported only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from data_prep.common import contents
from data_prep.common.errors import UserError
from data_prep.common.paths import open_local
from data_prep.notes.csv_source import CsvSource
from data_prep.notes.rows import ColumnNames

if TYPE_CHECKING:
    from data_prep.notes.parquet_source import ParquetSource
    from data_prep.notes.sql_source import SqlSource

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def open_file(
    path: str | Path,
    columns: ColumnNames,
    open_binary: Callable[[str], IO[bytes]] = open_local,
) -> CsvSource | ParquetSource:
    """Opens a file by its suffix and checks its columns; gzip of any other name is taken for CSV.

    Args:
      path: the file.
      columns: which columns hold what.
      open_binary: opens the path as bytes.

    Raises:
      UserError: the suffix is not one of `SUFFIXES`, or the file cannot be read as what it says.
    """
    name = str(path).lower()
    if name.endswith((".csv", ".csv.gz")) or (
        not name.endswith(SUFFIXES) and contents.look_at(str(path), open_binary).is_gzip
    ):
        return CsvSource(path, columns, open_binary)
    if name.endswith(".parquet"):
        from data_prep.notes.parquet_source import ParquetSource

        return ParquetSource(path, columns, open_binary)
    raise UserError(f"{path}: found a file of another kind; expected {', '.join(SUFFIXES)}")


def open_table(url: str, table: str, columns: ColumnNames) -> SqlSource:
    """Opens a table of a database and checks its columns.

    Raises:
      UserError: see `SqlSource`.
    """
    from data_prep.notes.sql_source import SqlSource

    return SqlSource(url, table, columns)
