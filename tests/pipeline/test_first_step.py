"""The first step of a preference training, computed again by what it began from."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from accord.core.rundir import read_json, write_json
from accord.lm.model.load import MODEL_FILE
from accord.pipeline.doctor.base import Examination, examined
from accord.pipeline.doctor.deep import deepened
from accord.pipeline.doctor.reading import of_run
from accord.pipeline.folder import plan
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from tests.faults import starts
from tests.pipeline.tiny_recipe import save_tiny_model, small_world, write_recipe

LOAD = "accord.pipeline.stages.preference.run.load"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    path = write_recipe(folder, save_tiny_model(folder / "model"))
    world = small_world(folder / "world.yaml")
    text = path.read_text()
    lines = [
        f"    world: {world}" if line.strip().startswith("world:") else line
        for line in text.splitlines()
    ]
    path.write_text("\n".join(lines))
    return path


def trained(recipe: Path, name: str, around: Any, batch: int = 4) -> Path:
    """A DPO of two steps from the untuned model; another batch size is another stage."""
    sets = [f"name={name}", "dpo.init=base", "dpo.max_steps=2", f"dpo.batch_size={batch}"]
    sets.append(f"dpo.limit={8 + batch}")  # a reference is kept by its pairs
    read = read_recipe(recipe, sets)
    with around:
        run(read, recipe.parent / "runs", MagicMock(), only=["study", "dpo"])
    return plan(read, recipe.parent / "runs").path


def looked(path: Path) -> Examination:
    cases = [c for c in deepened(path, of_run(path)) if c.of == "deep"]
    for case in cases:
        case.facts.pop("looked")  # type: ignore[attr-defined]
    return examined(cases)


def test_policy_and_reference_that_are_where_it_began_are_clear(recipe: Path) -> None:
    path = trained(recipe, "well", contextlib.nullcontext())
    assert ("dpo", "not_its_start") in looked(path).clear
    # an adapter that says it stands on other weights
    saved = next((path.parent / "stages").glob("dpo-*")) / "model" / MODEL_FILE
    write_json(saved, {**read_json(saved), "base_weights": "0" * 64})
    (found,) = looked(path).findings
    assert "adapter stands on other weights" in found.cause


@pytest.mark.parametrize(("how", "who"), [("dropout", "policy"), ("adapter twice", "reference")])
def test_who_is_not_is_told(recipe: Path, how: str, who: str) -> None:
    around = starts.dropped(0.3, LOAD) if how == "dropout" else starts.preference(how, 2, 7)
    path = trained(recipe, f"planted-{who}", around, 3 if how == "dropout" else 5)
    (found,) = looked(path).findings
    assert (found.check, found.serious) == ("not_its_start", True)
    assert found.cause.startswith(f"the {who}")
    log_alone = examined([c for c in of_run(path) if c.of == "preference"]).findings
    assert log_alone[0].check == "not_the_reference"
