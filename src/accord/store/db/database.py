"""Opening the database: SQLite by default, PostgreSQL by URL; migrations; transactions."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite

from accord.core.errors import DISTRIBUTION, StoreError
from accord.core.refs import is_url, revealed, shown
from accord.core.rundir import private, user_path

__all__ = ["HEAD", "Database", "holds_database", "remove"]

HEAD = "0004"  # the newest migration
WAIT_SECONDS = 60  # for another writer
SQLITE_MAGIC = b"SQLite format 3\x00"
BATCH = 500
AT_ONCE = 10_000  # rows of an insert


def remove(path: Path) -> None:
    """Delete an SQLite store with its write-ahead log, if it is there."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


class Database:
    """Connections to one store. A write transaction is exclusive, so a hash chain never forks."""

    def __init__(self, where: str | Path, create: bool, name: str | None = None) -> None:
        self.name = name or shown(where)
        try:
            url = _url(where, create)
            lite = url.get_backend_name() == "sqlite"
            self.engine = sa.create_engine(
                url, connect_args={"timeout": WAIT_SECONDS} if lite else {}
            )
        except (sa.exc.ArgumentError, ModuleNotFoundError, ValueError, TypeError) as error:
            # a ValueError may quote a piece of the password
            reason = "bad URL" if type(error) is ValueError else str(error)
            raise StoreError(
                f"can't be opened ({reason})",
                where=self.name,
                allowed="a file, sqlite:///FILE or postgresql+psycopg://HOST/DATABASE",
                mend=f"for PostgreSQL: pip install '{DISTRIBUTION}[postgres]'",
            ) from None
        self.dialect = self.engine.dialect.name
        one_state = {} if lite else {"isolation_level": "REPEATABLE READ"}
        self._reader = self.engine.execution_options(**one_state)
        if self.dialect == "sqlite":
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", _sqlite_begin)
        self._mine = threading.local()  # each thread has a transaction of its own
        # one writer at a time in this process: SQLite's own waiting polls, a lock hands over at once
        self._turn = threading.Lock() if lite else contextlib.nullcontext()
        self._archive = url.query.get("immutable") == "1"
        try:
            self._migrate(create)
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def _open(self) -> sa.Connection | None:
        """This thread's write transaction, if one is under way."""
        return getattr(self._mine, "open", None)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the store."""
        if self._open is not None:
            yield self._open
            return
        with self._faults(), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """The exclusive write transaction: all of it or nothing. Nested uses join it."""
        if self._open is not None:
            yield self._open
            return
        writer = self.engine.execution_options(accord_write=True)
        with self._turn, self._faults(), writer.connect() as connection, connection.begin():
            if self.dialect == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(4772667)"))
            self._mine.open = connection
            try:
                yield connection
            finally:
                self._mine.open = None

    def insert(self, table: sa.TableClause, rows: Iterable[dict[str, Any]]) -> None:
        """Insert what is not there yet."""
        make = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
        statement, left = make(table).on_conflict_do_nothing(), iter(rows)
        while some := list(itertools.islice(left, AT_ONCE)):
            compiled = statement.compile(dialect=self.engine.dialect, column_keys=list(some[0]))
            order = compiled.positiontup  # of SQLite's unnamed parameters
            with self.writing() as connection:
                connection.exec_driver_sql(
                    compiled.string,
                    [tuple(row[k] for k in order) for row in some] if order else some,
                )

    @contextlib.contextmanager
    def roomy(self) -> Iterator[None]:
        """A write transaction for a great many rows: SQLite keeps its pages in memory, up to 1 GB, and writes
        each once."""
        with self.writing() as connection:
            lite = self.dialect == "sqlite"
            usual = connection.exec_driver_sql("PRAGMA cache_size").scalar() if lite else 0
            if lite:
                connection.exec_driver_sql(f"PRAGMA cache_size=-{1 << 20}")
            try:
                yield
            finally:
                if lite:
                    connection.exec_driver_sql(f"PRAGMA cache_size={usual}")

    def columns(
        self, table: sa.TableClause, key: str, values: Collection[str], *columns: str
    ) -> list[Any]:
        """Rows (or columns of rows) whose key is among the values: asked for in batches or, where they are a
        good part of the table, picked out of all of it."""
        rows: list[Any] = []
        names = columns or tuple(table.c.keys())
        chosen = [table.c[name] for name in names]
        with self.reading() as connection:
            if key in names and len(values) > 20 * BATCH:
                wanted, at = set(values), names.index(key)
                size = connection.execute(
                    sa.select(sa.func.count()).select_from(table)
                ).scalar_one()
                if size < 4 * len(wanted):
                    rows_of_all = connection.execute(sa.select(*chosen))
                    return [row for row in rows_of_all if row[at] in wanted]
            ordered = sorted(values)
            for start in range(0, len(ordered), BATCH):
                batch = ordered[start : start + BATCH]
                rows += connection.execute(sa.select(*chosen).where(table.c[key].in_(batch)))
        return rows

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Database faults as StoreErrors."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise StoreError(_reason(error), where=self.name, mend=_mend(error)) from None
        except sa.exc.TimeoutError:
            raise StoreError(
                "too many threads are waiting", where=self.name, mend="try again"
            ) from None

    def _revision(self) -> str | None:
        with self.reading() as connection:
            tables = sa.inspect(connection).get_table_names()
            if not {"alembic_version", "judgments"} <= set(tables):
                if "alembic_version" in tables or (tables and self.dialect == "sqlite"):
                    raise StoreError(
                        "is a database, but not an accord store",
                        where=self.name,
                        mend="name another file",
                    )
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def _migrate(self, create: bool) -> None:
        revision = self._revision()
        if revision == HEAD or (revision and self._archive and revision < HEAD):
            return  # an older archive is read as it is: newer migrations only add tables
        if revision is not None and revision > HEAD:
            raise StoreError(
                f"was written by a newer accord (schema {revision}, this one knows {HEAD})",
                where=self.name,
                mend="upgrade accord",
            )
        if revision is None and not create:
            raise StoreError("holds no store", where=self.name, mend="make one with accord import")
        if self.dialect == "sqlite":  # kept in the file: only ever asked of one of our own
            raw = self.engine.raw_connection()
            with contextlib.closing(raw), contextlib.suppress(sqlite3.Error):
                raw.cursor().execute("PRAGMA journal_mode=WAL")
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", "accord.store.db:migrations")
        config.set_main_option("path_separator", "os")
        with self.writing() as connection:
            if self._revision() == HEAD:  # another process was faster
                return
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                what = f"has a schema of its own ({error})"
                raise StoreError(what, where=self.name, mend="name another file") from None


def _url(where: str | Path, create: bool) -> sa.URL:
    if not is_url(where):
        return _sqlite_url(Path(where), create)
    url = sa.make_url(revealed(str(where)))
    plain = url.get_backend_name() == "sqlite" and not (url.query or url.host or url.username)
    if plain and url.database and url.database != ":memory:":
        return _sqlite_url(Path(url.database), create)
    return url


def _sqlite_url(path: Path, create: bool) -> sa.URL:
    path = user_path(path)
    try:
        there = path.exists()
        head = _head(path) if there and not path.is_dir() else b""
    except OSError as error:
        raise StoreError(
            f"can't be read ({error.strerror})", where=str(path), mend="check its permissions"
        ) from None
    if path.is_dir():
        raise StoreError("is a directory, not a store", where=str(path), mend="name a file in it")
    if not there:
        if not create:
            raise StoreError("no such store", where=str(path), mend="check the path")
        if not path.parent.is_dir():
            raise StoreError(
                "the directory does not exist", where=str(path.parent), mend="make it first"
            )
        with contextlib.suppress(OSError):  # SQLite says what is in the way
            private(path)
        return sa.URL.create("sqlite", database=str(path))
    if head and head != SQLITE_MAGIC:
        raise StoreError(
            "is not a store",
            where=str(path),
            mend="to bring a data file in: accord import FILE --store S",
        )
    wal = path.with_name(f"{path.name}-wal")
    if not create and not os.access(path.parent, os.W_OK) and not wal.exists():  # an archive
        query = {"mode": "ro", "immutable": "1", "uri": "true"}
        return sa.URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)
    return sa.URL.create("sqlite", database=str(path))


def holds_database(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    return _head(path) == SQLITE_MAGIC


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC))


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # with our triggers each row's INSERT has a statement journal: in a file, six writes a row
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


def _sqlite_begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("accord_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _reason(error: sa.exc.DBAPIError) -> str:
    return (str(error.orig).splitlines() or [type(error.orig).__name__])[0]


def _mend(error: sa.exc.DBAPIError) -> str:
    text = str(error.orig)
    table = {
        "locked": "another process is writing; try again when it is done",
        "readonly": "the file or its directory is not writable",
        "unable to open": "check the path and its permissions",
        "malformed": "restore a copy; accord data STORE tells what is readable",
        "FOREIGN KEY": "add prompts, responses, questions and raters before their judgments",
    }
    return next((mend for sign, mend in table.items() if sign in text), "")
