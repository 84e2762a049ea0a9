"""What should run again does, and what has merely moved does not: it is found where the recipe says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from accord.core.errors import ConfigError
from accord.lm.model.load import load
from accord.pipeline.folder import plan
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.store import Store, import_file
from tests.lm.test_export import plain
from tests.lm.test_load import logits
from tests.lm.tiny import CHATML
from tests.pipeline.test_runner import Heard
from tests.pipeline.test_sources import pairs, write_rows
from tests.pipeline.tiny_recipe import save_tiny_model
from tests.test_cli import accord

RECIPE = """\
name: moving
model: {model}
stages:
  sft: {{kind: sft, on: chosen, data: study.db@v1, max_steps: 1}}
  dpo: {{kind: preference, init: sft, data: study.db@v1, max_steps: 1}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    with Store(folder / "study.db") as store:
        import_file(store, write_rows(folder / "pairs.jsonl", pairs("this")))
        store.freeze("v1")
    save_tiny_model(folder / "model")
    (folder / "r.yaml").write_text(RECIPE.format(model="model"))
    return folder


def keys(folder: Path, runs: Path) -> dict[str, str]:
    found = plan(read_recipe(folder / "r.yaml"), runs)
    return {name: place.name for name, place in found.stages.items()}


def test_a_moved_project_goes_on(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recipe, base and store go elsewhere and the runs get another name; only what changed runs."""
    before = keys(here, tmp_path / "runs")
    done = run(read_recipe(here / "r.yaml"), tmp_path / "runs", Heard())
    trained = load(done.stages["dpo"] / "model")
    there = Path(shutil.move(here, tmp_path / "there/deeper"))
    runs = Path(shutil.move(tmp_path / "runs", tmp_path / "renamed"))
    assert keys(there, runs) == before
    sets = ["dpo.max_steps=2"]
    heard = Heard()
    again = run(read_recipe(there / "r.yaml", sets), runs, heard)
    assert heard.ran == ["study-db-v1", "dpo"]  # the store is opened where it is now
    assert "sft" in heard.skips
    moved = runs / "stages" / done.stages["dpo"].name / "model"
    assert load(moved, base=there / "model").weights == trained.weights
    assert again.report.exists()
    code, _, error = accord(
        capsys, "export", f"{again.path}:dpo", str(tmp_path / "out"), "--merged"
    )
    assert (code, error) == (0, "")
    now = load(again.stages["dpo"] / "model", base=there / "model").model
    torch.testing.assert_close(logits(plain(tmp_path / "out")), logits(now), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "file",
    [
        "chat_template.jinja",
        "tokenizer.model",
        "vocab.txt",
        "modeling_x.py",
        "generation_config.json",
    ],
)
def test_another_tokenizer_or_template_runs_the_stages_again(
    file: str, here: Path, tmp_path: Path
) -> None:
    before = keys(here, tmp_path / "runs")
    (here / "model" / file).write_text(CHATML + "{# new #}" if "jinja" in file else "{}")
    after = keys(here, tmp_path / "runs")
    assert before["study-db-v1"] == after["study-db-v1"]
    assert all(before[name] != after[name] for name in ("sft", "dpo"))
    (here / "model/README.md").write_text("words")
    assert keys(here, tmp_path / "runs") == after


def test_a_model_that_is_not_there_is_told_before_anything_runs(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(here / "model")
    (here / "r.yaml").write_text(RECIPE.format(model="./model"))
    code, out, error = accord(capsys, "run", str(here / "r.yaml"), "--runs", str(tmp_path / "runs"))
    assert (code, out) == (2, "")
    assert "./model: no such directory" in error
    assert not list((tmp_path / "runs").glob("stages/*/DONE"))


def test_all_missing_inputs_in_one_answer(here: Path, tmp_path: Path) -> None:
    more = "  a: {kind: sft, data: a.jsonl}\n  b: {kind: sft, data: b.jsonl}\n"
    (here / "r.yaml").write_text(RECIPE.format(model="model") + more)
    with pytest.raises(ConfigError) as told:
        keys(here, tmp_path / "runs")
    assert [("a.jsonl" in x, "b.jsonl" in x) for x in str(told.value).splitlines()] == [
        (True, False),
        (False, True),
    ]


def test_the_world_travels_with_the_stage(tmp_path: Path) -> None:
    from accord.pipeline.stages.data import world_of
    from accord.worlds.base import open_world
    from tests.pipeline.tiny_recipe import write_recipe

    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"), facts=8)
    world = tmp_path / "small.yaml"
    cases = len(open_world(world).cases)
    done = run(read_recipe(path), tmp_path / "runs", Heard(), only=["study"])
    world.unlink()
    found = world_of(SimpleNamespace(stages=done.stages), "study")  # type: ignore[arg-type]
    assert found is not None
    assert len(found.cases) == cases
    assert json.loads((done.stages["study"] / "world.json").read_text())["world"] == "world.yaml"
