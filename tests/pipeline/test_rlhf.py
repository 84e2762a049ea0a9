"""PPO and its kin as stages of a recipe: run, killed, told in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.pipeline.recipe import read_recipe
from accord.pipeline.report import rlhf
from accord.pipeline.runner import run
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe

RLHF = """
  ppo:
    kind: ppo
    init: sft
    data: study
    rewards: [{name: learned, model: rm}, {name: length_penalty, per_token: 0.01, budget: 2}]
    steps: 3
    batch_size: 4
    minibatch: 2
    epochs: 2
    max_new_tokens: 4
    limit: 8
    eval_limit: 4
    save_every: 1
    kl: {control: adaptive, beta: 0.05}
  rloo: {kind: rloo, init: sft, data: study, rewards: [{name: learned, model: rm}], steps: 2, batch_size: 2,
    max_new_tokens: 4, limit: 4, eval_limit: 2}
"""


def recipe(folder: Path, more: str = RLHF) -> Path:
    path = write_recipe(folder, save_tiny_model(folder / "model"))
    text = path.read_text().replace("policies: [base, sft, dpo]", "policies: [base, sft, dpo, ppo]")
    path.write_text(text + more)
    return path


def test_a_recipe_with_ppo_runs_to_its_report(tmp_path: Path) -> None:
    done = run(read_recipe(recipe(tmp_path)), tmp_path / "runs", Heard())
    page = (done.path / "report.html").read_text()
    for words in (
        "PPO from sft",
        "KL from the reference",
        "explained variance",
        "length_penalty",
        "RLOO",
    ):
        assert words in page
    result = json.loads((done.stages["ppo"] / "result.json").read_text())
    assert result["facts"]["steps"] == 3
    compared = json.loads((done.stages["compare"] / "compare.json").read_text())
    assert "ppo" in compared["table"]


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("[{name: learned, model: sft}]", "'sft' is no rewards"),
        ("[{name: learned, model: nobody}]", "no stage 'nobody'"),
        ("[{name: patern, regex: a}]", "unknown reward 'patern'"),
        ("[]", "rewards"),
    ],
)
def test_wrong_rewards_are_found_before_anything_runs(
    tmp_path: Path, entry: str, match: str
) -> None:
    more = f"\n  ppo: {{kind: ppo, init: sft, data: study, rewards: {entry}}}\n"
    with pytest.raises(ConfigError, match=match):
        read_recipe(recipe(tmp_path, more))


def test_every_part_of_a_reward_and_a_constraints_weight_get_a_curve() -> None:
    found = {
        keys: name
        for keys, name, _ in rlhf.curves(
            [
                "score",
                "reward/rm",
                "weight/care",
                "dropped/rm",
                "eval/dropped/rm",
                "eval/dropped/care",
            ]
        )
    }
    assert found[("reward/rm",)] == "rm: reward"
    assert found[("weight/care",)] == "care: weight"
    assert found[("dropped/rm", "eval/dropped/rm")] == "rm: left out"
    assert found[("eval/dropped/care",)] == "care: left out"


def test_what_best_of_n_costs_and_earns_is_drawn_where_it_is_logged() -> None:
    both = {("expected_best", "score"), ("best_of_n_kl", "kl")}
    plain = ["score", "kl", "eval/reward"]
    assert both <= {keys for keys, *_ in rlhf.curves([*plain, "expected_best", "best_of_n_kl"])}
    assert not both & {keys for keys, *_ in rlhf.curves(plain)}
