"""Opening the database: SQLite by default, PostgreSQL by URL; migrations; transactions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite

from accord.core.errors import StoreError

__all__ = ["HEAD", "Database", "remove"]

HEAD = "0001"  # the newest migration
WAIT_SECONDS = 60  # for another writer
SQLITE_MAGIC = b"SQLite format 3\x00"
BATCH = 500


def remove(path: Path) -> None:
    """Delete an SQLite store with its write-ahead log, if it is there."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


class Database:
    """Connections to one store. A write transaction is exclusive, so a hash chain never forks."""

    def __init__(self, where: str | Path, create: bool) -> None:
        self.name = re.sub(r"//[^@/]*@", "//…@", str(where))  # never show a password
        url = str(where) if "://" in str(where) else _sqlite_url(Path(where), create)
        try:
            self.engine = sa.create_engine(url, connect_args=_connect_args(url))
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreError(
                f"can't be opened ({error})",
                where=self.name,
                allowed="a file, sqlite:///FILE or postgresql+psycopg://HOST/DATABASE",
                mend="for PostgreSQL: pip install 'accord[postgres]'",
            ) from None
        self.dialect = self.engine.dialect.name
        if self.dialect == "sqlite":
            event.listen(self.engine, "connect", _sqlite_connect)
            event.listen(self.engine, "begin", _sqlite_begin)
        self._open: sa.Connection | None = None
        try:
            self._migrate(create)
        except BaseException:
            self.engine.dispose()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the store."""
        if self._open is not None:
            yield self._open
            return
        with self._faults(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """The exclusive write transaction: all of it or nothing. Nested uses join it."""
        if self._open is not None:
            yield self._open
            return
        writer = self.engine.execution_options(accord_write=True)
        with self._faults(), writer.connect() as connection, connection.begin():
            if self.dialect == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(4772667)"))
            self._open = connection
            try:
                yield connection
            finally:
                self._open = None

    def insert(self, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert what is not there yet."""
        if rows:
            make = postgresql.insert if self.dialect == "postgresql" else sqlite.insert
            with self.writing() as connection:
                connection.execute(make(table).on_conflict_do_nothing(), list(rows))

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Database faults as StoreErrors."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise StoreError(_reason(error), where=self.name, mend=_mend(error)) from None

    def _revision(self) -> str | None:
        with self.reading() as connection:
            tables = sa.inspect(connection).get_table_names()
            if "alembic_version" not in tables:
                if tables and self.dialect == "sqlite":
                    raise StoreError(
                        "is a database, but not an accord store",
                        where=self.name,
                        mend="name another file",
                    )
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def _migrate(self, create: bool) -> None:
        found = self._revision()
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise StoreError(
                f"was written by a newer accord (schema {found}, this one knows {HEAD})",
                where=self.name,
                mend="upgrade accord",
            )
        if found is None and not create:
            raise StoreError("holds no store", where=self.name, mend="make one with accord import")
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", "accord.store:migrations")
        config.set_main_option("path_separator", "os")
        with self.writing() as connection:
            if self._revision() == HEAD:  # another process was faster
                return
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _sqlite_url(path: Path, create: bool) -> str:
    path = path.expanduser()
    if path.is_dir():
        raise StoreError("is a directory, not a store", where=str(path), mend="name a file in it")
    if not path.exists():
        if not create:
            raise StoreError("no such store", where=str(path), mend="check the path")
        if not path.parent.is_dir():
            raise StoreError(
                "the directory does not exist", where=str(path.parent), mend="make it first"
            )
        return f"sqlite:///{path}"
    try:
        with path.open("rb") as file:
            head = file.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise StoreError(f"can't be read ({error.strerror})", where=str(path)) from None
    if head and head != SQLITE_MAGIC:
        raise StoreError(
            "is not a store",
            where=str(path),
            mend="to bring a data file in: accord import FILE --store S",
        )
    return f"sqlite:///{path}"


def _connect_args(url: str) -> dict[str, Any]:
    return {"timeout": WAIT_SECONDS} if url.startswith("sqlite") else {}


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    with contextlib.suppress(Exception):  # a read-only file keeps the mode it has
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _sqlite_begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("accord_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _reason(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).splitlines()[0]


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
