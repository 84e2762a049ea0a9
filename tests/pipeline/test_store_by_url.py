"""Recipes read a store by URL; a live store is copied through its database; no password is ever written."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.refs import hidden
from accord.pipeline.context import data_store
from accord.pipeline.folder import plan
from accord.pipeline.recipe import Recipe, build_recipe
from accord.pipeline.runner import run
from accord.pipeline.stages.ask import AskStage
from accord.pipeline.stages.opening import OpenStage
from accord.store import Store, copy_store, opened_snapshot
from tests.pipeline.test_runner import Heard
from tests.store.conftest import postgres
from tests.store.words import ANNA, COMPARE, every, fill, says

SECRET = "postgresql+psycopg://ann:S3CRET@localhost:1/none"


def recipe(data: str, folder: Path, name: str = "t") -> Recipe:
    """One stage that opens a snapshot, which is all that runs."""
    ask = {"kind": "ask", "policy": "base", "data": data}
    return build_recipe(
        {"name": name, "model": "none", "stages": {"ask": ask}}, {}, "t.yaml", folder, []
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of either database with a snapshot v1."""
    where = str(tmp_path / "study.db") if request.param == "sqlite" else postgres()
    with Store(where) as store:
        fill(store).add_judgments(every())
        store.freeze("v1")
    return where


def test_a_recipe_opens_a_store_by_url(judged: str, tmp_path: Path) -> None:
    url = judged if "://" in judged else f"sqlite:///{judged}"
    made = recipe(f"{url}@v1", tmp_path)
    opened = next(n for n in made.nodes if isinstance(n.config, OpenStage))
    run(made, tmp_path / "runs", Heard(), only=[opened.name])
    folder = plan(made, tmp_path / "runs").stages[opened.name]
    store, facts = data_store(folder)
    with store:
        assert len(store.snapshot(facts["snapshot"])) == len(every())


def test_a_database_is_known_by_its_snapshot(judged: str, tmp_path: Path) -> None:
    if "://" not in judged:
        judged = f"sqlite:///{judged}"
    copy = tmp_path / "elsewhere.db"
    with Store(judged) as store:
        copy_store(store, copy)
    stages = [
        plan(recipe(f"{w}@v1", tmp_path), tmp_path).stages for w in (judged, f"sqlite:///{copy}")
    ]
    (first,), (second,) = ([p for n, p in s.items() if n != "ask"] for s in stages)
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]


def test_a_finished_stage_follows_a_store_that_moved(tmp_path: Path) -> None:
    runs, places = tmp_path / "runs", [tmp_path / "a", tmp_path / "b"]
    places[0].mkdir()
    with Store(places[0] / "study.db") as store:
        fill(store).add_judgments(every())
        store.freeze("v1")
    for n, place in enumerate(places):
        if n:
            places[0].rename(place)
        made = recipe("study.db@v1", place)
        (name,) = [node.name for node in made.nodes if node.name != "ask"]
        run(made, runs, Heard(), only=[name])
        store, _ = data_store(plan(made, runs).stages[name])
        with store:
            assert store.verify() == len(every())


@pytest.mark.parametrize("at_file", ["a@b.jsonl", "dir@home/a.jsonl"])
def test_a_file_with_an_at_is_a_file(tmp_path: Path, at_file: str) -> None:
    (node, *_) = recipe(f"./{at_file}" if "/" not in at_file else at_file, tmp_path).nodes
    assert node.config.kind == "import"


def test_a_database_needs_its_snapshot(tmp_path: Path) -> None:
    for data in ("postgresql://user@host/db", SECRET):
        with pytest.raises(ConfigError, match="which snapshot") as error:
            recipe(data, tmp_path)
        assert "S3CRET" not in str(error.value)
    with pytest.raises(ConfigError, match="is no STORE@SNAPSHOT"):
        AskStage.model_validate(
            {"kind": "ask", "policy": "base", "data": "d", "answers": "postgresql://user@host/db"}
        ).check_names(str)


def test_no_password_in_what_a_recipe_leaves(tmp_path: Path) -> None:
    made = recipe(f"{SECRET}@v1", tmp_path)
    assert "S3CRET" not in repr(made)
    asked = AskStage.model_validate(
        {"kind": "ask", "policy": "base", "data": "d", "answers": f"{SECRET}@people"}
    )
    assert "S3CRET" not in asked.model_dump_json()
    opened = next(n.config for n in made.nodes if isinstance(n.config, OpenStage))
    assert opened.store == hidden(SECRET) == SECRET.replace(":S3CRET", "")


def test_a_live_store_is_copied_whole_while_others_write(judged: str, tmp_path: Path) -> None:
    """What is in the write-ahead log too; the copy is one state, its chain and snapshots proven."""
    with Store(judged) as live:
        live.add_judgments([says(ANNA, COMPARE, every()[0].answer)])
        live.freeze("v2")
        with Store(judged, create=False) as other:
            copy_store(other, tmp_path / "copy.db")
        with Store(tmp_path / "copy.db", create=False) as copy:
            assert copy.verify() == live.verify()
            assert copy.snapshot("v2").sha256 == live.snapshot("v2").sha256
            assert copy.counts() == live.counts()
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_one_reference_from_python(judged: str) -> None:
    with opened_snapshot(f"{judged}@v1") as snapshot:
        assert len(snapshot) == len(every())
    with pytest.raises(ConfigError, match=r"which snapshot.*allowed: v1"), opened_snapshot(judged):
        pass
