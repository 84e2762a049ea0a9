"""What models say of every policy's answers: the learned reward, and the distance from the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.core.types import Exchange, Prompt, Response
from accord.lm.chat import render_exchange
from accord.lm.kernels.allocator import release_freed_memory
from accord.lm.model.load import load
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import tree_logps
from accord.lm.trees.tree import share_prompts
from accord.pipeline.context import StageContext
from accord.pipeline.stages.compare import TOKENS, CompareStage
from accord.rewards.learned import load_reward_model

__all__ = ["add_kl", "add_rewards", "exchanges"]

Row = dict[str, Any]


def exchanges(rows: Sequence[Row]) -> list[Exchange]:
    return [
        Exchange(
            prompt=Prompt.model_validate(r["prompt"]),
            response=Response.model_validate(r["response"]),
        )
        for r in rows
    ]


def add_rewards(ctx: StageContext[Any], name: str, answers: dict[str, list[Row]]) -> list[str]:
    """The reward of every answer; a note where the model did not read answers to their end."""
    model = load_reward_model(ctx.stages[name] / "model")
    rows = [row for part in answers.values() for row in part]
    scored = exchanges(rows)
    scores = model(scored, on_progress=lambda d, n: ctx.reporter.progress(d, n, "rewards"))
    for row, score in zip(rows, scores, strict=True):
        row["reward"] = score
    cut = sum(model.cut(scored))
    most = model.max_completion
    return (
        [f"{name} read the first {most} tokens only of {cut} of {len(rows)} answers"] if cut else []
    )


def add_kl(ctx: StageContext[CompareStage], baseline: str, answers: dict[str, list[Row]]) -> None:
    """log π(y|x) - log π_ref(y|x) of each policy's own answers, per sequence: for sampled answers an
    unbiased estimate of KL(π‖π_ref); for greedy ones the log-ratio of the mode. Policies listed
    before the baseline came before it in training: they get none."""
    for row in answers.get(baseline, ()):
        row["kl"] = 0.0
    names = list(answers)
    later = names[names.index(baseline) + 1 :] if baseline in names else names
    others = [row for policy in later for row in answers[policy]]
    there = _logps(ctx, baseline, others)
    for row, value in zip(others, there, strict=True):
        row["kl"] = -value
    for policy in later:
        for row, value in zip(answers[policy], _logps(ctx, policy, answers[policy]), strict=True):
            row["kl"] += value


def _logps(ctx: StageContext[CompareStage], policy: str, rows: Sequence[Row]) -> list[float]:
    """log π(y|x) of each row's answer (nats); 0 for one that was cut off before its first token."""
    if not rows:
        return []
    release_freed_memory()  # the model before
    lm = load(ctx.policy(policy))
    rendered = [
        render_exchange(lm.tokenizer, e.prompt, e.response, sampled=True) for e in exchanges(rows)
    ]
    trees, places = share_prompts([(r.prompt, r.completion) for r in rendered if r.completion])

    def progress(done: int, n: int) -> None:
        ctx.reporter.progress(done, n, f"log-probs under {policy}")

    logps = tree_logps(Engine(lm.model), trees, TOKENS, progress)
    values = iter([float(logps[tree][k]) for tree, k in places])
    return [next(values) if r.completion else 0.0 for r in rendered]
