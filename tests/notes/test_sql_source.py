"""Notes out of databases: a real PostgreSQL, SQLite and DuckDB."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.common.errors import UserError
from data_prep.notes.rows import BadRow, ColumnNames, Note
from data_prep.notes.sources import open_file
from tests.golden_data import golden
from tests.running import (
    HANG_SECONDS,
    assert_one_line_error,
    assert_success,
    run_here,
    run_program,
)

sqlalchemy = pytest.importorskip("sqlalchemy", reason="the extra `sql` is not installed")

# The columns of mimic-code's mimic-iii/buildmimic/postgres.
NOTEEVENTS = """
CREATE SCHEMA mimiciii;
CREATE TABLE mimiciii.noteevents (
  row_id INT NOT NULL, subject_id INT NOT NULL, hadm_id INT, chartdate TIMESTAMP(0),
  charttime TIMESTAMP(0), storetime TIMESTAMP(0), category VARCHAR(50) NOT NULL,
  description VARCHAR(255) NOT NULL, cgid INT, iserror CHAR(1), text TEXT,
  CONSTRAINT noteevents_rowid_pk PRIMARY KEY (row_id)
);
"""


def _find(program: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    return str(places[0]) if places else shutil.which(program)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server of its own on a free port; yields the URL of a database with NOTEEVENTS."""
    initdb, server = _find("initdb"), _find("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL's initdb is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
        as_user = ["runuser", "-u", user, "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        [*as_user, initdb, "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync",
         "--locale=C.UTF-8"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*as_user, server, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder,
             "-c", "fsync=off"],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        url = f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        engine = sqlalchemy.create_engine(url)
        _wait_for(engine, process)
        with engine.begin() as connection:
            connection.exec_driver_sql(NOTEEVENTS)
            _fill(connection, "mimiciii.noteevents")
        engine.dispose()
        yield url
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)
        shutil.rmtree(folder)


def _wait_for(engine, process: subprocess.Popen) -> None:
    import time

    for _ in range(10 * HANG_SECONDS):
        assert process.poll() is None, "the server ended at its start"
        try:
            engine.connect().close()
            return
        except sqlalchemy.exc.OperationalError:
            time.sleep(0.1)
    raise TimeoutError("the server does not answer")


def _fill(connection, table: str) -> None:
    """Puts the golden notes into a table, the last first."""
    notes = list(open_file(golden("notes.csv"), ColumnNames()).rows())
    insert = sqlalchemy.text(
        f"INSERT INTO {table} (row_id, subject_id, category, description, iserror, text) "
        "VALUES (:row_id, :subject_id, :category, 'Report', :iserror, :text)"
    )
    for note in reversed(notes):
        assert isinstance(note, Note)
        connection.execute(
            insert,
            {
                "row_id": int(note.row_id),
                "subject_id": int(note.subject_id),
                "category": note.category,
                "iserror": "1" if note.is_error else None,
                "text": note.text,
            },
        )


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/notes.db"
    with sqlalchemy.create_engine(url).begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE noteevents (ROW_ID INTEGER, SUBJECT_ID INTEGER, CATEGORY TEXT, "
            "DESCRIPTION TEXT, ISERROR TEXT, TEXT TEXT)"
        )
        _fill(connection, "noteevents")
    return url


@pytest.fixture
def duckdb(tmp_path: Path) -> str:
    if not (importlib.util.find_spec("duckdb") and importlib.util.find_spec("duckdb_engine")):
        pytest.skip("duckdb and duckdb-engine are not installed")
    path = tmp_path / "notes.duckdb"
    statements = [
        "CREATE SCHEMA mimiciii",
        "CREATE TABLE mimiciii.noteevents AS SELECT * FROM "
        f"read_csv('{golden('notes.csv')}', all_varchar=true, escape='\"')",
        "ALTER TABLE mimiciii.noteevents ALTER ROW_ID TYPE INTEGER",
    ]
    # In a process of its own: DuckDB's binding complains at the end of one that it was imported in.
    code = (
        f"import duckdb\nconnection = duckdb.connect({str(path)!r})\n"
        f"for statement in {statements!r}:\n    connection.execute(statement)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return f"duckdb:///{path}"


@pytest.mark.parametrize(
    ("database", "table"),
    [
        ("postgres", "mimiciii.noteevents"),
        ("sqlite", "noteevents"),
        ("duckdb", "mimiciii.noteevents"),
    ],
)
def test_a_table_gives_the_same_files_as_the_csv(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, table: str
) -> None:
    flags = {"sentence_splitter": "rules", "held_out_fraction": 0.3, "num_shards": 3}
    url = request.getfixturevalue(database)
    from_table = run_program(
        "data_prep.format_notes",
        input_sql=url, sql_table=table, output_dir=tmp_path / "sql", **flags,
    )  # fmt: skip
    assert_success(from_table)
    from_csv = run_program(
        "data_prep.format_notes",
        input_file=golden("notes.csv"), output_dir=tmp_path / "csv", **flags,
    )  # fmt: skip
    assert_success(from_csv)
    names = sorted(path.name for path in (tmp_path / "csv").glob("*.txt"))
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "sql" / name).read_bytes() == (tmp_path / "csv" / name).read_bytes()
    manifest = (tmp_path / "sql" / "manifest.json").read_text()
    assert "127.0.0.1" not in manifest
    assert str(tmp_path) not in manifest


def test_postgres_rows_are_streamed_by_a_server_side_cursor(postgres: str) -> None:
    from data_prep.notes.sql_source import SqlSource

    statements = []

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def note_cursor(connection, cursor, statement, parameters, context, executemany):
        statements.append((statement, type(cursor).__name__))

    try:
        rows = list(SqlSource(postgres, "mimiciii.noteevents", ColumnNames()).rows())
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note_cursor)
    assert len(rows) == 26
    assert statements[-1][1] == "ServerCursor"
    assert "ORDER BY" in statements[-1][0]


CHANGES = {
    "a row more": "INSERT INTO noteevents SELECT 999, SUBJECT_ID, CATEGORY, DESCRIPTION, ISERROR, "
    "TEXT FROM noteevents WHERE ROW_ID = 1",
    "another text": "UPDATE noteevents SET TEXT = TEXT || ' more' WHERE ROW_ID = 1",
    "two swapped": "UPDATE noteevents SET ROW_ID = 3 - ROW_ID WHERE ROW_ID IN (1, 2)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_has_changed_since_is_not_the_one_that_was_read(
    sqlite: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: str
) -> None:
    flags = {
        "input_sql": sqlite, "sql_table": "noteevents", "output_dir": tmp_path / "out",
        "category": "all", "sentence_splitter": "rules",
    }  # fmt: skip
    assert_success(run_here(capfd, "data_prep.format_notes", **flags))
    assert "complete already" in run_here(capfd, "data_prep.format_notes", **flags).stdout
    with sqlalchemy.create_engine(sqlite).begin() as connection:
        assert connection.exec_driver_sql(CHANGES[change]).rowcount > 0
    result = run_here(capfd, "data_prep.format_notes", **flags)
    assert_one_line_error(result, 1, "the input has changed")


def test_a_table_that_changes_while_it_is_read_is_told(sqlite: str) -> None:
    from data_prep.notes.sql_source import SqlSource

    source = SqlSource(sqlite, "noteevents", ColumnNames())
    described = source.describe()
    rows = list(source.rows())
    assert described["rows"] == len(rows)
    with sqlalchemy.create_engine(sqlite).begin() as connection:
        connection.exec_driver_sql("DELETE FROM noteevents WHERE ROW_ID = 1")
    with pytest.raises(UserError, match=f"has changed while it was read, from {len(rows)} rows"):
        list(source.rows())
    assert SqlSource(sqlite, "noteevents", ColumnNames()).describe() != described


def test_null_and_undecodable_text_are_bad_rows(tmp_path: Path) -> None:
    from data_prep.notes.sql_source import SqlSource

    path = tmp_path / "n.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE n (row_id INTEGER, category TEXT, text TEXT)")
        connection.execute("INSERT INTO n VALUES (1, 'A', NULL)")
        connection.execute("INSERT INTO n VALUES (2, 'A', CAST(x'41ff' AS TEXT))")
        connection.execute("INSERT INTO n VALUES (3, 'A', 'text')")
    connection.close()
    null, undecodable, good = SqlSource(f"sqlite:///{path}", "n", ColumnNames()).rows()
    assert isinstance(null, BadRow)
    assert null.reason == "null text"
    assert null.place == "n: row 1 (id 1)"
    assert isinstance(undecodable, BadRow)
    assert undecodable.reason == "undecodable bytes"
    assert good == Note("3", "", "A", False, "text")


@pytest.mark.parametrize(
    ("url", "fragment"),
    [
        ("hunter2", "no URL of a database"),
        ("nosuchdb://me:hunter2@host/x", "no URL of a database"),
        ("sqlite:////nowhere/notes.db", "does not exist"),
        ("postgresql://me:hunter2@127.0.0.1:1/x", "cannot be read"),
    ],
)
def test_a_wrong_url_is_an_error_that_keeps_the_password(url: str, fragment: str) -> None:
    from data_prep.notes.sql_source import SqlSource

    with pytest.raises(UserError, match=fragment) as error:
        SqlSource(url, "noteevents", ColumnNames())
    assert "hunter2" not in str(error.value)


def test_a_missing_table_is_one_line(sqlite: str, tmp_path: Path) -> None:
    result = run_program(
        "data_prep.format_notes",
        input_sql=sqlite, sql_table="notevents", output_dir=tmp_path / "out",
    )  # fmt: skip
    assert_one_line_error(result, 1, "notevents", "--sql_table")
    assert not (tmp_path / "out").exists()
