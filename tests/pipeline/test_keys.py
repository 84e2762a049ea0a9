"""Keys of stages do not change by accident: outputs made by an earlier accord stay done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from accord.core.errors import ConfigError
from accord.pipeline import folder, stage
from accord.pipeline.recipe import build_recipe, read_recipe
from accord.pipeline.stage import kinds

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
EVERY = """
name: every
model: nobody
stages:
  rows: {kind: import, file: demo.jsonl}
  sft: {kind: sft, data: rows, on: chosen}
  rm: {kind: reward, init: sft, data: rows, seed: 3, fold: 1/2}
  steps: {kind: process, init: sft, data: rows}
  axes: {kind: reward_axes, init: sft, data: rows, axes: [tone]}
  pref: {kind: preference, init: sft, data: rows, loss: {name: kto}, labels: soft}
  grid: {kind: sweep, data: rows, over: {lr: [1.0e-4, 2.0e-4], loss.beta: [0.1, 0.2]}}
  ppo: {kind: ppo, init: grid, data: rows, rewards: [{name: learned, model: rm}]}
  rloo: {kind: rloo, init: sft, data: rows, rewards: [{name: learned, model: rm}], max_prompt: 9}
  grpo: {kind: grpo, init: sft, data: rows, rewards: [{name: learned, model: rm}]}
  online: {kind: online_dpo, init: sft, data: rows, rewards: [{name: learned, model: rm}]}
  best: {kind: best_of_n, init: sft, data: rows, rewards: [{name: learned, model: rm}]}
  ask: {kind: ask, policy: ppo, data: rows}
  check: {kind: rm_check, models: [rm], data: ask}
  eval: {kind: eval, policies: [base, ppo], data: ask}
  compare: {kind: compare, eval: eval, reward: rm}
"""
KEYS = {  # written down when all versions were those below
    "hacked": {
        "study": "2155906ed66f",
        "sft": "ca064b4a2284",
        "eval/sft": "dea1a14420b3",
        "rm": "6b74a5f6365e",
        "ppo": "1ddd0429e5ad",
        "eval/ppo": "c9181321c609",
        "fresh": "53a1b5c5dbcb",
        "check": "2dd95b3ae9e0",
        "guarded": "fcf26a09555c",
        "eval/guarded": "e4762484e41c",
        "compare": "a9610956f7e2",
    },
    "every": {
        "rows": "5263c32413e8",
        "sft": "669f25ab5bc1",
        "rm": "dc08b4168fd8",
        "steps": "ab91e991cabb",
        "axes": "e439549bafb7",
        "pref": "b576e07b52ff",
        "grid": "1c93ee299bd2",
        "ppo": "3db4c8a889e3",
        "rloo": "2226137fc2f4",
        "grpo": "f653f2e66ef4",
        "online": "56aae56de2b4",
        "best": "0b7769d726eb",
        "ask": "6f48c84689ea",
        "check": "1586bb4f13af",
        "eval/base": "9e5e2d1bf422",
        "eval/ppo": "4ed88f133c04",
        "compare": "d26b953840b6",
    },
}
VERSIONS = {
    "simulate": 1, "import": 1, "open": 1, "sft": 7, "reward": 8, "preference": 7, "sweep": 4,
    "process": 2, "reward_axes": 2, "ask": 1, "rm_check": 1,
    "ppo": 2, "rloo": 2, "grpo": 2, "online_dpo": 2, "best_of_n": 2, "eval": 4, "compare": 5,
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_those_they_were(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model left out, for it depends on the machine; the versions as they were."""
    monkeypatch.setattr(folder, "_model_identity", lambda model: model)
    for kind, version in VERSIONS.items():
        monkeypatch.setitem(stage._KINDS, kind, replace(kinds()[kind], version=version))
    path = RECIPES / f"{name}.yaml"
    if name == "every":
        (tmp_path / "demo.jsonl").write_text("{}\n")
        path = tmp_path / "every.yaml"
        path.write_text(EVERY)
    found = folder.plan(read_recipe(path), tmp_path / "runs").stages
    assert {n: place.name.rpartition("-")[2] for n, place in found.items()} == KEYS[name]


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("sft", "clip", "max_grad_norm"),
        ("preference", "clip", "max_grad_norm"),
        ("ppo", "clip", "clip_ratio"),
        ("grpo", "clip_high", "clip_ratio_high"),
        ("rloo", "clip_norm", "max_grad_norm"),
    ],
)
def test_a_key_that_was_renamed_is_told_by_its_new_name(kind: str, old: str, new: str) -> None:
    more = "" if kind in ("sft", "preference") else ", rewards: [{name: length}]"
    with pytest.raises(ConfigError, match=rf"unknown key '{old}'.*it is called {new} now"):
        build_recipe(
            yaml.safe_load(
                f"name: x\nmodel: m\nstages:\n  rows: {{kind: import, file: f.jsonl}}\n"
                f"  s: {{kind: {kind}, data: rows, {old}: 0.3{more}}}\n"
            ),
            {}, "x.yaml", Path(), [],
        )  # fmt: skip
