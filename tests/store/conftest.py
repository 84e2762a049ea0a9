"""A fresh store: SQLite always, PostgreSQL too where ACCORD_TEST_POSTGRES names a database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from accord.store import Store

SCHEMA = os.environ.get("PYTEST_XDIST_WORKER", "public")  # tests side by side don't meet
POSTGRES = os.environ.get("ACCORD_TEST_POSTGRES", "")


def postgres() -> str:
    """An empty PostgreSQL database's URL; where there is none, the test is skipped."""
    if not POSTGRES:
        pytest.skip("ACCORD_TEST_POSTGRES is not set (postgresql+psycopg://…/an_empty_database)")
    engine = sa.create_engine(POSTGRES)
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")
        )
    engine.dispose()
    url = sa.make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    return url.render_as_string(hide_password=False)


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import writes what it left out into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What to open for an empty store of either database."""
    return str(tmp_path / "study.db") if request.param == "sqlite" else postgres()


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
