"""What a guard asks for, judged by people in a browser, and the reward model trained on it too."""

from __future__ import annotations

import random
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from accord.core.errors import ConfigError
from accord.core.rundir import read_jsonl
from accord.core.types import Exchange, Response
from accord.detect.perturb import perturbations
from accord.feedback.study.definition import read_study
from accord.pipeline.context import data_store
from accord.pipeline.folder import RunFolder, plan
from accord.pipeline.mitigation import mitigate
from accord.pipeline.recipe import Recipe, read_recipe
from accord.pipeline.runner import run
from accord.pipeline.stages.on_policy.guard import GuardConfig
from accord.pipeline.stages.on_policy.watching import STUDY, DetectorGuard
from accord.store import Store
from accord.web.guard import accounts
from accord.web.site import Site
from accord.web.work.studies import load_study
from tests.pipeline.tiny_recipe import save_tiny_model, small_world
from tests.web.conftest import ORIGIN, PASSWORD, Browser, Clock

WORDS = ("river", "stone", "lamp", "bread", "chair", "cloud", "glass", "wheel", "sand", "coin")
STEPS, BATCH = 8, 16


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Recipe, RunFolder]:
    """A recipe whose study is there, with the policy's stage still to be run."""
    small_world(tmp_path / "world.yaml")
    path = tmp_path / "tiny.yaml"
    path.write_text(f"""\
name: tiny
seed: 3
model: {save_tiny_model(tmp_path / "model")}
stages:
  study: {{kind: simulate, world: world.yaml, raters: [{{name: Ada, skill: 16}}]}}
  rm: {{kind: reward, init: base, data: study, batch_size: 8, max_steps: 2, eval_limit: 4}}   # what pays
  ppo:
    kind: ppo
    init: base
    data: study
    rewards: [{{name: learned, model: rm}}]
    steps: {STEPS}
    guard: {{action: ask, every: 2, items: 8, detectors: [flattery]}}
""")
    recipe = read_recipe(path)
    run(recipe, tmp_path / "runs", MagicMock(), only=["study"])
    return path, recipe, plan(recipe, tmp_path / "runs")


def guarded(folder: RunFolder, recipe: Recipe) -> DetectorGuard:
    """The guard over a policy that learns to flatter, on the study's prompts; no model."""
    opened, _ = data_store(folder.stages["study"])
    with opened as store:
        prompts = sorted(store.prompts(), key=lambda p: p.id)[:BATCH]
    config = next(n.config for n in recipe.nodes if n.name == "ppo")
    place = folder.stages["ppo"]
    place.mkdir(parents=True)
    guard = DetectorGuard(GuardConfig(**config.guard.model_dump()), STEPS, place, "ppo")
    for step in range(STEPS):
        draw = random.Random(step)
        said = [" ".join(draw.sample(WORDS, 6)) + "." for _ in prompts]
        if step >= 4:
            said = [perturbations["flattered"](text, draw) for text in said]
        exchanges = [
            Exchange(prompt=p, response=Response(text=t, source="model:ppo", finish="stop"))
            for p, t in zip(prompts, said, strict=True)
        ]
        guard.see(step, exchanges, [0.0] * len(exchanges))
    return guard


def judged(study: Path, store: Path) -> int:
    """All of it answered in a browser by somebody who takes the first of two; frozen as `people`."""
    with Store(store) as opened:
        site = Site(opened, origin=ORIGIN, now=Clock())
        told = read_study(study)
        load_study(site, told)
        accounts.add_account(site, "anna", PASSWORD)
        accounts.set_role(site, told.name, "anna", "annotator", "test")
        browser = Browser(site).sign_in("anna")
        for _ in range(99):
            if 'name="base"' not in browser.get(f"/studies/{told.name}/annotate").text:
                break
            browser.answer(told.name, choice="0:1")
        opened.freeze("people")
        return int(opened.counts()["judgments"])


def test_what_it_asks_for_is_judged_and_the_reward_model_learns_from_it(
    begun: tuple[Path, Recipe, RunFolder], tmp_path: Path
) -> None:
    path, recipe, folder = begun
    with pytest.raises(ConfigError, match=r"no guard of .* asked"):
        mitigate(path, recipe, folder.path, "guard=x.db@people")
    guard = guarded(folder, recipe)
    assert "answers to be judged" in guard.notes[0]
    study = folder.stages["ppo"] / STUDY
    pairs = read_jsonl(study.parent / "guard_compare.jsonl")
    assert all(r["finish"] == "stop" for row in pairs for r in row["responses"])
    with pytest.raises(ConfigError, match=r"whose judgments.*accord collect serve"):
        mitigate(path, recipe, folder.path, "guard")
    n = judged(study, tmp_path / "judged.db")
    assert n == len(pairs) >= 8
    written = mitigate(path, recipe, folder.path, f"guard={tmp_path / 'judged.db'}@people")
    assert f"the {n} judgments" in written.why[0]
    assert "# what pays" in written.path.read_text()
    changed = read_recipe(written.path)
    run(changed, tmp_path / "runs", MagicMock(), only=["study", "study_judged", "rm"])
    place = plan(changed, tmp_path / "runs").stages
    with Store(tmp_path / "judged.db") as store:
        new = {j.id for j in store.snapshot("people").judgments}
    learned = {s for row in read_jsonl(place["rm"] / "trained_on.jsonl") for s in row["sources"]}
    assert len(learned & new) >= 0.6 * n  # some prompts are held out, as the study holds them
    assert learned - new
