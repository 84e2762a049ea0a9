"""The recipes of AI feedback from end to end, with a tiny model and few steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from accord.core.rundir import read_json, read_jsonl
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import ROOT, save_tiny_model

FRESH = ["prompts=6", "held_out=3", "max_new_tokens=6", "checked=6", "gate=null"]
STEPS = ["limit=4", "eval_limit=3", "max_steps=2", "batch_size=2"]
ONLINE = ["steps=1", "batch_size=2", "n=2", "minibatch=1", "max_new_tokens=6", "eval_limit=2"]
ASKED = ["prompts=6", "held_out=6", "n=3", "max_new_tokens=6", "batch_size=8"]
SETS = {
    "rlaif": {
        "sft": STEPS, "round": ASKED, "rm": STEPS, "dpo": STEPS, "ppo": ONLINE, "judged": FRESH,
        "dpo_ai": STEPS, "rm_ai": STEPS, "ppo_ai": ONLINE, "mixed": FRESH, "dpo_mixed": STEPS,
    },
    "cai": {
        "sft": STEPS, "judged": FRESH, "careful": FRESH, "sl_cai": STEPS, "rl_cai": STEPS,
        "revised": ["prompts=6", "demonstrations=4", "max_new_tokens=6", "critique_tokens=6"],
    },
}  # fmt: skip
NO_TRAINING = ("round", "judged", "mixed", "careful", "revised")


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_recipe_of_ai_feedback_ends_in_a_report(name: str, tmp_path: Path) -> None:
    model, world = save_tiny_model(tmp_path / "model"), tmp_path / "world.yaml"
    shop = (ROOT / "recipes/support/open_book.yaml").read_text()
    world.write_text(re.sub(r"(?m)^draws: .*$", "draws: 1", shop))
    sets = [f"model={model}", f"chats.world={world}", "chats.turns=1", f"study.world={world}"]
    sets += ["eval.prompts=4", "eval.max_new_tokens=4"]
    sets += [f"asked.world={world}"] * (name == "cai")
    sets += [f"{stage}.{key}" for stage, keys in SETS[name].items() for key in keys]
    lasting = {"tune": "{last_layers: 1}"}
    tuned = [s for s in SETS[name] if s not in NO_TRAINING]
    sets += [f"{stage}.{key}={value}" for stage in tuned for key, value in lasting.items()]
    done = run(read_recipe(ROOT / "recipes" / f"{name}.yaml", sets), tmp_path / "runs", Heard())
    judged = read_json(done.stages["judged"] / "result.json")
    assert judged["facts"]["labels"] > 10
    assert judged["facts"]["scripted"] == (name == "cai")
    assert judged["metrics"]["agreement with people"]["n"] > 5
    learner = {"rlaif": "dpo_ai", "cai": "rl_cai"}[name]
    rows = read_jsonl(done.stages[learner] / "trained_on.jsonl")
    assert any(0.5 < row["p"] < 1 for row in rows)
    page = (done.path / "report.html").read_text()
    assert ("a script stands in for the judge" in page) == (name == "cai")
    assert "agreement with people" in page
