"""Opening: every fault is one line with a mend, and what is not ours stays untouched."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from accord.core.errors import StoreError
from accord.store import Store, opened_or_new, remove
from accord.store.db import schema
from accord.store.db.database import HEAD
from tests.store.words import every, fill


def sql(path: Path, words: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(words)
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def newer(path: Path) -> Path:
    Store(path).close()
    return sql(path, "UPDATE alembic_version SET version_num = '9001'")


def damaged(path: Path) -> Path:
    return text(path, "") if path.write_bytes(b"SQLite format 3\x00" + b"?" * 5000) == 0 else path


ALEMBIC = (
    "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('{}')"
)
FAULTS: dict[str, tuple[Callable[[Path], object], bool, str, str]] = {
    "directory": (lambda d: d, True, "is a directory", "name a file in it"),
    "text file": (lambda d: text(d / "a.jsonl", '{"a": 1}'), True, "is not a store", "import FILE"),
    "short text": (lambda d: text(d / "a", "x"), True, "is not a store", "import FILE"),
    "text by URL": (
        lambda d: f"sqlite:///{text(d / 'a', 'hello there')}",
        True,
        "is not a store",
        "import FILE",
    ),
    "other database": (
        lambda d: sql(d / "a.db", "CREATE TABLE t (x)"),
        True,
        "not an accord store",
        "another file",
    ),
    "other with alembic, later": (
        lambda d: sql(d / "a.db", ALEMBIC.format("a1b2c3")),
        True,
        "not an accord store",
        "another file",
    ),
    "other with alembic, earlier": (
        lambda d: sql(d / "a.db", ALEMBIC.format("0000")),
        True,
        "not an accord store",
        "another file",
    ),
    "damaged": (lambda d: damaged(d / "a.db"), True, "", ""),
    "missing": (lambda d: d / "none.db", False, "no such store", "check the path"),
    "missing by URL": (
        lambda d: f"sqlite:///{d}/none.db",
        False,
        "no such store",
        "check the path",
    ),
    "no such folder": (lambda d: d / "x/y.db", True, "does not exist", "make it first"),
    "not writable": (lambda d: "/proc/none.db", True, "unable to open", "permissions"),
    "newer": (lambda d: newer(d / "a.db"), True, "newer accord (schema 9001", "upgrade accord"),
    "empty file, not to create": (
        lambda d: text(d / "a.db", ""),
        False,
        "holds no store",
        "accord import",
    ),
    "bad URL": (lambda d: "post://", True, "can't be opened", "pip install"),
    "bad port": (lambda d: "postgresql://h:port/d", True, "can't be opened", "pip install"),
    "unknown driver": (
        lambda d: "postgresql+nodriver://h/d",
        True,
        "can't be opened",
        "pip install",
    ),
    "unknown database": (lambda d: "oracool://h/d", True, "can't be opened", "pip install"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_and_leaves_the_folder_as_it_was(tmp_path: Path, name: str) -> None:
    make, create, what, mend = FAULTS[name]
    where = make(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*")}
    with pytest.raises(StoreError) as error:
        Store(where, create=create)  # type: ignore[arg-type]
    line = str(error.value)
    assert what in line
    assert mend in error.value.mend
    assert "\n" not in line
    assert str(where).removeprefix("sqlite:///").rpartition("/")[0] in line
    assert {p: p.read_bytes() for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+nodriver://u:SECRET@h/d",
        "postgresql+nodriver://u:SECRET@SECRET@h/d",
        "postgresql+nodriver://u:/SECRET@h/d",
        "postgresql+nodriver://u:SECRET/SECRET@h/d",
        "postgresql+nodriver://h/d?password=SECRET&user=u",
        "postgresql+psycopg://u:p/SECRET@h/d",
        "u:SECRET://@h",
        "sqlite://u:SECRET@h/d",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(StoreError) as error:
        Store(url)
    assert "SECRET" not in str(error.value).replace("u:SECRET://", "")


@pytest.mark.skipif("psycopg2" in sys.modules, reason="the driver is installed")
def test_a_missing_driver_is_named() -> None:
    with pytest.raises(StoreError, match=r"psycopg2.*pip install 'accord-align\[postgres\]'"):
        Store("postgresql+psycopg2://h/d")


NOT_ROOT = """
import os, sys
from accord.core.errors import StoreError
from accord.store import Store, opened_or_new
if os.geteuid() == 0:
    os.setuid(65534)
for name in ("study.db", "new.db"):
    try:
        with Store(f"{sys.argv[1]}/{name}") as store, store.transaction():
            print("opened")
    except StoreError as error:
        print(error)
with Store(f"{sys.argv[1]}/study.db", create=False) as store:
    print(store.verify(), "read")
"""


def test_a_read_only_folder_is_a_store_error() -> None:
    """In a process that is not root, for root may write anywhere."""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path's parents are closed to others
        with Store(f"{folder}/study.db") as store:
            fill(store).add_judgments(every())
        Path(f"{folder}/study.db").chmod(0o644)  # its owner lets others read it
        Path(folder).chmod(0o555)
        found = subprocess.run(
            [sys.executable, "-c", NOT_ROOT, folder],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        Path(folder).chmod(0o700)
    assert found.stderr == ""
    *lines, read = found.stdout.splitlines()
    assert read == "7 read"  # an archive can still be read
    assert len(lines) == 2
    assert all("permissions" in line or "not writable" in line for line in lines)


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    with Store(text(tmp_path / "a.db", "")) as store:
        assert fill(store).add_judgments(every()) == 7


@pytest.mark.parametrize("name", ["a?b.db", "a b%20c.db", "ä#.db", "no-suffix"])
def test_the_file_has_the_name_it_was_given(tmp_path: Path, name: str) -> None:
    with Store(tmp_path / name) as store:
        fill(store)
    assert (tmp_path / name).exists()
    with Store(tmp_path / name, create=False) as store:
        assert store.counts()["prompts"] == 2
    remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_url_opens_the_same_store(tmp_path: Path) -> None:
    with Store(tmp_path / "a.db") as store:
        fill(store)
    with Store(f"sqlite:///{tmp_path}/a.db", create=False) as store:
        assert store.counts()["prompts"] == 2


def test_migrations_make_the_tables_of_the_schema(either: Store) -> None:
    with either._db.engine.connect() as connection:
        ours = {
            "compare_type": True,
            "include_name": lambda name, kind, _: kind != "table" or name in schema.TABLES,
        }
        context = MigrationContext.configure(connection, opts=ours)
        assert compare_metadata(context, schema.metadata) == []
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        assert version == HEAD
        assert set(schema.TABLES) == set(schema.metadata.tables)


def test_opening_again_changes_nothing(either: Store, where: str) -> None:
    fill(either)
    before = either.counts()
    with Store(where), Store(where, create=False) as again:
        assert again.counts() == before


def test_a_store_made_meanwhile_keeps_what_is_in_it(tmp_path: Path) -> None:
    """Two imports begin on a name that is not there: the later one is told, and nothing is lost."""
    path = tmp_path / "s.db"

    def both() -> None:
        with opened_or_new(path) as mine:
            fill(mine)
            with opened_or_new(path) as other:
                fill(other).add_judgments(every())

    with pytest.raises(StoreError, match="another process made this store meanwhile"):
        both()
    with Store(path, create=False) as store:
        assert store.verify() == 7
    assert [p.name for p in tmp_path.iterdir()] == ["s.db"]


def test_a_failure_leaves_no_store(tmp_path: Path) -> None:
    def fail() -> None:
        with opened_or_new(tmp_path / "s.db") as store:
            fill(store)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
