"""A fresh store: SQLite always, PostgreSQL too where ACCORD_TEST_POSTGRES names a database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from accord.store import Store

POSTGRES = os.environ.get("ACCORD_TEST_POSTGRES", "")


def wipe(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What to open for an empty store of either database."""
    if request.param == "sqlite":
        return str(tmp_path / "study.db")
    if not POSTGRES:
        pytest.skip("ACCORD_TEST_POSTGRES is not set (postgresql+psycopg://…/an_empty_database)")
    wipe(POSTGRES)
    return POSTGRES


@pytest.fixture
def either(where: str) -> Iterator[Store]:
    """An empty store of either database."""
    with Store(where) as store:
        yield store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite store in tmp_path / "study.db"."""
    with Store(tmp_path / "study.db") as store:
        yield store
