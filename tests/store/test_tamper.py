"""Append-only: the database refuses changes, and with its triggers gone `verify` names the row."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from accord.core.errors import StoreError
from accord.core.hashing import canonical_json
from accord.core.types import Preference, Rater
from accord.store import Store
from accord.store.db.proof import GENESIS, link
from accord.store.db.schema import TABLES
from tests.store.words import ANNA, BEN, COMPARE, TENT, A, every, fill, says

FIRST, SECOND, THIRD = every()[:3]
TIE = Preference(better=None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with seven judgments, and a snapshot of the first three."""
    path = tmp_path_factory.mktemp("store") / "study.db"
    with Store(path) as store:
        fill(store).add_judgments(every()[:3])
        store.freeze("v1")
        store.add_judgments(every()[3:])
    return path


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    path = tmp_path / "study.db"
    shutil.copyfile(written, path)
    return path


@contextlib.contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def free(path: Path) -> None:
    """Drop the triggers, as someone who means to would."""
    with raw(path) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            connection.execute(f"DROP TRIGGER {name}")


@pytest.mark.parametrize("table", TABLES)
def test_the_database_refuses_changes(copy: Path, table: str) -> None:
    with raw(copy) as connection:
        column = connection.execute(f"SELECT * FROM {table}").description[-1][0]
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
        assert rows
        for words in (f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                connection.execute(words)
        shown = ", ".join("?" * len(rows[0]))
        with contextlib.suppress(sqlite3.IntegrityError):
            connection.execute(f"REPLACE INTO {table} VALUES ({shown})", (*rows[0][:-1], "forged"))
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == rows


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("words", ["UPDATE {} SET {} = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_either_database_refuses_changes(either: Store, table: str, words: str) -> None:
    if words.startswith("TRUNCATE") and either._db.dialect == "sqlite":
        words = "DELETE FROM {}"
    fill(either).add_judgments(every())
    either.freeze("v1")
    column = {"snapshots": "sha256", "judgments": "body"}.get(table, "id")
    more = " CASCADE" if words.startswith("TRUNCATE") else ""
    with pytest.raises(StoreError, match="never changed"), either._db.writing() as connection:
        connection.execute(sa.text(words.format(table, column) + more))
    assert either.verify() == 7


def body(judgment: object) -> str:
    return canonical_json(judgment).replace("'", "''")


BECAUSE = body(FIRST).replace("because 0", "because not")
CHANGES = {
    "a response's text": (
        f"UPDATE responses SET text = 'yes' WHERE id = '{A.id_for(TENT)}'",
        f"row {A.id_for(TENT)} of responses",
    ),
    "a response's source": ("UPDATE responses SET source = 'x' WHERE text = 'no'", "of responses"),
    "a response's prompt": (
        "UPDATE responses SET prompt = (SELECT max(id) FROM prompts WHERE id != prompt)",
        "of responses",
    ),
    "a prompt": (
        "UPDATE prompts SET messages = replace(messages, 'tent', 'ten')",
        f"row {TENT.id} of prompts",
    ),
    "a prompt to garbage": ("UPDATE prompts SET messages = '{'", "of prompts"),
    "a prompt to nothing": ("UPDATE prompts SET messages = '[]'", "of prompts"),
    "a question's order": (
        f"UPDATE questions SET responses = '[]' WHERE id = '{COMPARE.id}'",
        f"row {COMPARE.id} of questions",
    ),
    "a guideline": ("UPDATE questions SET guideline = 'v9' WHERE kind = 'rank'", "of questions"),
    "a rater's name": ("UPDATE raters SET name = 'eve' WHERE name = 'anna'", f"row {ANNA.id}"),
    "a judgment's body": (
        f"UPDATE judgments SET body = '{BECAUSE}' WHERE seq = 1",
        f"judgment {FIRST.id} (number 1)",
    ),
    "a judgment to garbage": ("UPDATE judgments SET body = 'x' WHERE seq = 2", "(number 2)"),
    "a judgment's rater": (
        f"UPDATE judgments SET rater = '{BEN.id}' WHERE seq = 3",
        f"judgment {THIRD.id} (number 3)",
    ),
    "a judgment's question": (
        f"UPDATE judgments SET question = '{COMPARE.id}' WHERE seq = 2",
        f"judgment {SECOND.id} (number 2)",
    ),
    "a judgment's kind": ("UPDATE judgments SET kind = 'thumb' WHERE seq = 2", "(number 2)"),
    "a judgment's id": ("UPDATE judgments SET id = 'x' WHERE seq = 2", "(number 2)"),
    "a judgment gone": ("DELETE FROM judgments WHERE seq = 2", "(number 3)"),
    "the first judgment gone": ("DELETE FROM judgments WHERE seq = 1", "(number 2)"),
    "the last of a snapshot gone": ("DELETE FROM judgments WHERE seq > 2", "snapshot v1"),
    "judgments reordered": (
        "UPDATE judgments SET seq = -seq WHERE seq < 3;"
        "UPDATE judgments SET seq = 3 + seq WHERE seq < 0",
        "(number 1)",
    ),
    "a question gone": (f"DELETE FROM questions WHERE id = '{COMPARE.id}'", "(number 1)"),
    "a rater gone": (f"DELETE FROM raters WHERE id = '{ANNA.id}'", "(number 1)"),
    "a response gone": (f"DELETE FROM responses WHERE id = '{A.id_for(TENT)}'", "of questions"),
    "a prompt gone": (f"DELETE FROM prompts WHERE id = '{TENT.id}'", "of responses"),
    "a snapshot's end": ("UPDATE snapshots SET up_to = 2", "snapshot v1"),
    "a snapshot's hash": ("UPDATE snapshots SET sha256 = 'x'", "snapshot v1"),
    "a snapshot's selection": (
        """UPDATE snapshots SET selection = '{"kinds":["ranking"],"raters":null}'""",
        "snapshot v1",
    ),
    "a snapshot's selection to garbage": ("UPDATE snapshots SET selection = '['", "snapshot v1"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_verify_names_what_was_changed(copy: Path, name: str) -> None:
    words, told = CHANGES[name]
    free(copy)
    with raw(copy) as connection:
        connection.executescript(words)
    with Store(copy, create=False) as store, pytest.raises(StoreError) as error:
        store.verify()
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert "restore the store from a copy" in str(error.value)


def test_rewriting_one_link_breaks_the_next(copy: Path) -> None:
    forged = says(BEN, COMPARE, TIE)
    free(copy)
    with raw(copy) as connection:
        connection.execute(
            "UPDATE judgments SET id = ?, rater = ?, body = ?, hash = ? WHERE seq = 1",
            (forged.id, BEN.id, canonical_json(forged), link(GENESIS, canonical_json(forged))),
        )
    with (
        Store(copy, create=False) as store,
        pytest.raises(StoreError, match=f"judgment {SECOND.id} .number 2. is not what was"),
    ):
        store.verify()


def test_a_snapshot_whose_judgments_changed_is_refused(copy: Path) -> None:
    free(copy)
    with raw(copy) as connection:
        connection.execute("UPDATE judgments SET body = replace(body, 'because 0', 'why')")
    with (
        Store(copy, create=False) as store,
        pytest.raises(StoreError, match="judgments of snapshot v1 have changed"),
    ):
        store.snapshot("v1")


@pytest.mark.parametrize("name", ["a response's text", "a prompt", "a rater's name", "a guideline"])
def test_a_snapshot_is_not_read_through_changed_rows(copy: Path, name: str) -> None:
    free(copy)
    with raw(copy) as connection:
        connection.executescript(CHANGES[name][0])
    with (
        Store(copy, create=False) as store,
        pytest.raises(StoreError, match="not what was written"),
    ):
        store.snapshot("v1").pairs()


def test_an_untouched_copy_is_sound(copy: Path) -> None:
    free(copy)
    with Store(copy, create=False) as store:
        assert store.verify() == 7
        store.add_raters([Rater(name="cleo", kind="rule")])
        assert store.verify() == 7
