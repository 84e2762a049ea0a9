"""What an editor knows of a notebook: mypy checks this file (`make check`); nothing runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import accord


def notebook(prompts: Sequence[accord.Prompt]) -> None:
    policy = accord.load("packaged/SmolLM2-135M-Instruct")
    assert_type(policy, accord.LanguageModel)
    assert_type(policy.answer(["Hello"], max_new_tokens=5, temperature=0.0)[0].text, str)
    assert_type(policy.answers(prompts, 4), list[list[accord.Response]])
    policy.answer(["Hello"], temperatur=0.0)  # type: ignore[call-arg]
    with accord.Store("study.db") as store:
        accord.import_file(store, "pairs.jsonl")
        train, held = store.snapshot("v1").pairs(min_agreement=0.6).split(test=0.1)
    result = accord.train_preference(
        policy, train, loss={"name": "dpo"}, tune={"r": 8}, lr=1e-4, eval_on=held, run_dir="runs/d"
    )
    assert_type(result.metrics["accuracy"], accord.Metric)
    assert_type(result.policy, accord.LanguageModel)
    accord.train_preference(policy, train, run_dir="runs/d", learning_rate=1.0)  # type: ignore[call-arg]
    accord.train_preference(policy, train, run_dir="runs/d", lr="1e-4")  # type: ignore[arg-type]
    reward = accord.train_reward(policy, train, run_dir="runs/r", epochs=1)
    scores = accord.load_reward_model(reward.model).score(["Where?"], ["Here."])
    assert_type(scores, list[float])
    rewards = [{"name": "learned", "model": str(reward.model)}]
    own = accord.train_policy(policy, prompts, rewards, run_dir="runs/p", kl={"beta": 0.1}, lam=0.9)
    assert_type(own.metrics, dict[str, accord.Metric])
    accord.train_policy(policy, prompts, rewards, run_dir="runs/p", method="pp")  # type: ignore[arg-type]
    assert_type(accord.evaluate(own.policy, prompts, rewards).metrics["reward"].value, float | None)
    done = accord.run("support", {"dpo.loss.beta": 0.3}, runs=Path("runs"))
    assert_type(done["dpo"].policy, accord.LanguageModel)
