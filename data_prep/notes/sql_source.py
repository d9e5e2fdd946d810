"""Notes in a table of a database, streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from data_prep.common.errors import UserError, one_line
from data_prep.notes.rows import BadRow, ColumnNames, Note, make_note

if TYPE_CHECKING:
    import sqlalchemy

_ROWS_AT_A_TIME = 256
_DIGEST_BYTES = 16


class SqlSource:
    """A table with the columns of NOTEEVENTS, of MIMIC-IV-Note, or named ones.

    Rows come in the order of the note id where there is such a column, else in the database's own.
    They are streamed by a server-side cursor, a few hundred at a time.

    Args:
      url: an SQLAlchemy URL.
      table: the table's or view's name, `schema.table` where it has a schema.
      columns: which columns hold what.

    Raises:
      UserError: the URL, the database or the table is at fault.
    """

    def __init__(self, url: str, table: str, columns: ColumnNames) -> None:
        try:
            import sqlalchemy
        except ModuleNotFoundError:
            raise UserError(
                "--input_sql: SQLAlchemy is not installed; run pip install sqlalchemy"
            ) from None
        self._engine = _engine(url)
        self._table_name = table
        self._needs_subject = columns.needs_subject
        schema, _, name = table.rpartition(".")
        bare = sqlalchemy.table(name, schema=schema or None)
        try:
            with self._engine.connect() as connection:
                everything = sqlalchemy.select(sqlalchemy.text("*")).select_from(bare).limit(0)
                header = list(connection.execute(everything).keys())
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            # No note has been read yet, so that the database's own words can be shown.
            raise UserError(
                f"--input_sql, --sql_table: {table} of {self._database()} cannot be read: "
                f"{self._reason(error)}; check the URL, the table's name and its schema"
            ) from None
        places = columns.places(header, table)
        self._roles = list(places)
        chosen = [sqlalchemy.column(header[index]) for index in places.values()]
        self._query = sqlalchemy.select(*chosen).select_from(bare)
        if "row_id" in places:
            self._query = self._query.order_by(sqlalchemy.column(header[places["row_id"]]))
        self._content: _Content | None = None

    def describe(self) -> dict[str, Any]:
        """Returns what a manifest says of the source; neither user, password nor host.

        Reads all rows, so that a table which has grown or changed since is not taken for the one
        that was read. `rows` yields no others from now on.
        """
        self._content = _Content()
        for fields in self._fetched():
            self._content.add(fields)
        return {
            "name": self._table_name,
            "dialect": self._engine.dialect.name,
            "database": self._database(),
            "rows": self._content.rows,
            "content": self._content.hexdigest(),
        }

    def rows(self) -> Iterator[Note | BadRow]:
        """Yields every row; a row number counts from 1 in the order of the note id.

        Raises:
          UserError: the database failed, or the rows are others than `describe` found.
        """
        content = _Content()
        for fields in self._fetched():
            content.add(fields)
            yield self._note(dict(zip(self._roles, fields, strict=True)), content.rows)
        if self._content is not None and content.hexdigest() != self._content.hexdigest():
            raise UserError(
                f"{self._table_name}: the table has changed while it was read, from "
                f"{self._content.rows} rows to {content.rows} or in what they hold; run the same "
                "command again when nobody writes to it"
            )

    def _fetched(self) -> Iterator[Sequence[Any]]:
        import sqlalchemy

        row = 0
        try:
            with self._engine.connect() as connection:
                streaming = connection.execution_options(
                    stream_results=True, yield_per=_ROWS_AT_A_TIME
                )
                for fields in streaming.execute(self._query):
                    row += 1
                    yield fields
        except sqlalchemy.exc.SQLAlchemyError as error:
            # The driver's message could quote a note.
            cause = type(getattr(error, "orig", None) or error).__name__
            raise UserError(
                f"{self._table_name}: the database {self._database()} failed after row {row} "
                f"({cause}); run the same command again to go on from there"
            ) from None

    def _note(self, values: dict[str, Any], row: int) -> Note | BadRow:
        row_id = values.get("row_id")
        known_as = f" (id {row_id})" if isinstance(row_id, int) else ""
        place = f"{self._table_name}: row {row}{known_as}"
        note = make_note(values, place, needs_subject=self._needs_subject)
        if isinstance(note, Note):
            try:
                f"{note.category}{note.subject_id}".encode()
                note.text.encode()
            except UnicodeEncodeError:
                return BadRow(place, "undecodable bytes", "a field is not UTF-8; convert it")
        return note

    def _database(self) -> str:
        return PurePath(self._engine.url.database or "").name

    def _reason(self, error: Exception) -> str:
        message = one_line(str(getattr(error, "orig", None) or error))
        password = self._engine.url.password
        return message.replace(str(password), "***") if password else message


class _Content:
    """What is known of rows, whatever their order: a table without a note id has none for sure."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, fields: Sequence[Any]) -> None:
        """Takes a row."""
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for value in fields:
            # SQLite gives text that is not UTF-8 with surrogates.
            text = b"" if value is None else str(value).encode(errors="surrogatepass")
            digest.update(f"{type(value).__name__}\0{len(text)}\0".encode())
            digest.update(text)
        self.rows += 1
        self._sum += int.from_bytes(digest.digest(), "big")

    def hexdigest(self) -> str:
        """Returns the sum of the rows' BLAKE2b digests in hexadecimal."""
        return f"{self._sum % 2 ** (8 * _DIGEST_BYTES):0{2 * _DIGEST_BYTES}x}"


def _engine(url: str) -> sqlalchemy.Engine:
    import sqlalchemy

    try:
        parsed = sqlalchemy.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        # DuckDB sorts in memory until it is told that there is less of it.
        duckdb = {"connect_args": {"read_only": True, "config": {"memory_limit": "512MB"}}}
        is_duckdb = parsed.get_backend_name() == "duckdb"
        engine = sqlalchemy.create_engine(parsed, **(duckdb if is_duckdb else {}))
    except ModuleNotFoundError as error:
        raise UserError(
            f"--input_sql: the driver {error.name} is not installed; run pip install {error.name}, "
            "or name another as in postgresql+psycopg://"
        ) from None
    except (sqlalchemy.exc.SQLAlchemyError, ValueError):
        # The URL may hold a password.
        raise UserError(
            "--input_sql: this is no URL of a database that SQLAlchemy knows; expected such as "
            "postgresql+psycopg://user@host/database or sqlite:///notes.db"
        ) from None
    if engine.dialect.name == "sqlite":
        database = parsed.database
        if database and not PurePath(database).name.startswith(":") and not _exists(database):
            raise UserError(f"--input_sql: {database} does not exist; check the path")

        @sqlalchemy.event.listens_for(engine, "connect")
        def keep_undecodable(connection: Any, _: Any) -> None:
            # SQLite checks no encoding, and the driver's own error would quote the text.
            connection.text_factory = lambda data: data.decode(errors="surrogateescape")

    elif engine.dialect.name == "duckdb" and parsed.database and not _exists(parsed.database):
        raise UserError(f"--input_sql: {parsed.database} does not exist; check the path")
    return engine


def _exists(path: str) -> bool:
    from pathlib import Path

    return Path(path).exists()
