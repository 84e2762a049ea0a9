"""Stages that measure: a policy's answers to held-out prompts, and policies beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from accord.core.rundir import read_jsonl, write_json, write_jsonl
from accord.core.types import Exchange, Metric, Prompt, Response
from accord.evals.support import AXES, World, gold
from accord.lm.allocator import release_freed_memory
from accord.lm.chat import render_exchange
from accord.lm.engine import Engine
from accord.lm.load import load
from accord.lm.room import check_some, fitting, said
from accord.lm.sample import LocalSampler, Sampling
from accord.lm.score import tree_logps
from accord.lm.tree import share_prompts
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.pipeline.data_stages import world_of
from accord.pipeline.kinds import Compare, Eval
from accord.rewards.learned import load_reward_model
from accord.stats.intervals import mean, paired_difference, proportion
from accord.store import split_of

__all__ = ["compare_stage", "eval_stage"]

SHARES = {"accuracy", "resolution", "escalation", "tone"}
TOKENS = 512  # per scoring call: on a CPU, longer rows lose more to attention than they gain


def held_out_prompts(ctx: StageContext, data: str) -> list[Prompt]:
    """Held-out prompts of a data stage, in an order fixed by their ids."""
    opened, facts = data_store(ctx.stages[data])
    with opened as store:
        prompts = [
            p for p in store.prompts() if split_of(p.id, facts["test"], facts["seed"]) == "test"
        ]
    return sorted(prompts, key=lambda p: p.id)


def eval_stage(ctx: StageContext) -> StageResult:
    """Answer the held-out prompts; score by gold where the world's truth is known."""
    config = ctx.config
    assert isinstance(config, Eval)
    name = config.policies[0]
    lm = load(ctx.policy(name))
    every = held_out_prompts(ctx, config.data)
    prompts, left_out = fitting(lm, every, config.max_new_tokens, config.max_prompt)
    check_some(prompts, left_out, f"stage {ctx.name}")
    for text in said(left_out):
        ctx.reporter.note(text)
    prompts = prompts[: config.prompts]
    sampler = LocalSampler(lm, batch_size=config.batch_size, source=f"model:{name}")
    sampling = Sampling(
        max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=ctx.seed
    )
    done = sampler(
        prompts, sampling, on_progress=lambda d, n: ctx.reporter.progress(d, n, "answers")
    )
    world = world_of(ctx, config.data)
    rows = [_row(p, r[0], world) for p, r in zip(prompts, done, strict=True)]
    write_jsonl(ctx.folder / "answers.jsonl", rows)
    metrics = _answer_metrics(rows)
    shown = "gold" if "gold" in metrics else "words"
    headline = f"{name}: {shown} {metrics[shown]} on held-out prompts"
    facts = {"policy": name, "data": config.data, "left_out": dict(left_out)}
    return StageResult(metrics, [*lm.notes, *said(left_out)], facts, headline)


def _row(prompt: Prompt, response: Response, world: World | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt_id": prompt.id,
        "prompt": prompt.model_dump(mode="json"),
        "response": response.model_dump(mode="json"),
        "words": len(response.text.split()),
    }
    if world and (case := world.by_prompt.get(prompt.id)):
        row |= {"case": case.kind, "gold": gold(world, case, response)}
    return row


def _answer_metrics(rows: Sequence[dict[str, Any]]) -> dict[str, Metric]:
    metrics = {
        axis: _measure(axis, [r["gold"][axis] for r in rows if "gold" in r])
        for axis in ("gold", *AXES)
        if any("gold" in r for r in rows)
    }
    cut = sum(r["response"]["finish"] == "length" for r in rows)
    return {
        **metrics,
        "words": mean([r["words"] for r in rows]),
        "cut off": proportion(cut, len(rows)),
    }


def _measure(name: str, values: Sequence[float]) -> Metric:
    """The mean with its interval; of an axis that is 0 or 1, a share."""
    return proportion(sum(values), len(values)) if name in SHARES else mean(values)


def compare_stage(ctx: StageContext) -> StageResult:
    """Learned reward, KL from the baseline and paired differences for all evaluated policies."""
    config = ctx.config
    assert isinstance(config, Compare)
    folders = {
        k.partition("/")[2]: f for k, f in ctx.stages.items() if k.startswith(f"{config.eval}/")
    }
    answers = {policy: read_jsonl(folder / "answers.jsonl") for policy, folder in folders.items()}
    notes = _add_rewards(ctx, config.reward, answers) if config.reward else []
    _add_kl(ctx, config.baseline, answers)
    for policy, rows in answers.items():
        write_jsonl(ctx.folder / f"{policy}.jsonl", rows)
    table = {policy: _table_row(rows) for policy, rows in answers.items()}
    steps = _differences(answers)
    plain = {p: {k: m.model_dump(mode="json") for k, m in row.items()} for p, row in table.items()}
    told = {s: {k: m.model_dump(mode="json") for k, m in d.items()} for s, d in steps.items()}
    write_json(
        ctx.folder / "compare.json",
        {
            "policies": list(answers),
            "table": plain,
            "differences": told,
            "baseline": config.baseline,
        },
    )
    key = "gold" if any("gold" in d for d in steps.values()) else "reward"
    headline = "; ".join(f"{s}: {key} {d[key]}" for s, d in steps.items() if key in d)
    flat = {f"{s} {k}": m for s, d in steps.items() for k, m in d.items()}
    return StageResult(flat, notes, {"policies": list(answers)}, headline)


def _exchanges(rows: Sequence[dict[str, Any]]) -> list[Exchange]:
    return [
        Exchange(
            prompt=Prompt.model_validate(r["prompt"]),
            response=Response.model_validate(r["response"]),
        )
        for r in rows
    ]


def _add_rewards(
    ctx: StageContext, name: str, answers: dict[str, list[dict[str, Any]]]
) -> list[str]:
    """The reward of every answer; a note where the model did not read answers to their end."""
    model = load_reward_model(ctx.stages[name] / "model")
    rows = [row for part in answers.values() for row in part]
    exchanges = _exchanges(rows)
    scores = model(exchanges, on_progress=lambda d, n: ctx.reporter.progress(d, n, "rewards"))
    for row, score in zip(rows, scores, strict=True):
        row["reward"] = score
    cut = sum(model.cut(exchanges))
    most = model.max_completion
    return (
        [f"{name} read the first {most} tokens only of {cut} of {len(rows)} answers"] if cut else []
    )


def _add_kl(ctx: StageContext, baseline: str, answers: dict[str, list[dict[str, Any]]]) -> None:
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


def _logps(ctx: StageContext, policy: str, rows: Sequence[dict[str, Any]]) -> list[float]:
    """log π(y|x) of each row's answer (nats); 0 for one that was cut off before its first token."""
    if not rows:
        return []
    release_freed_memory()  # the model before
    lm = load(ctx.policy(policy))
    rendered = [
        render_exchange(lm.tokenizer, e.prompt, e.response, sampled=True) for e in _exchanges(rows)
    ]
    trees, places = share_prompts([(r.prompt, r.completion) for r in rendered if r.completion])

    def told(done: int, n: int) -> None:
        ctx.reporter.progress(done, n, f"log-probs under {policy}")

    found = tree_logps(Engine(lm.model), trees, TOKENS, told)
    values = iter([float(found[tree][k]) for tree, k in places])
    return [next(values) if r.completion else 0.0 for r in rendered]


def _values(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Every numeric column of the answers, axes of gold included."""
    columns = {k: [float(r[k]) for r in rows] for k in ("reward", "kl", "words") if k in rows[0]}
    if "gold" in rows[0]:
        columns |= {axis: [r["gold"][axis] for r in rows] for axis in ("gold", *AXES)}
    return columns


def _table_row(rows: Sequence[dict[str, Any]]) -> dict[str, Metric]:
    return {name: _measure(name, values) for name, values in _values(rows).items()}


def _differences(answers: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Metric]]:
    """Each policy against the one before it, paired by prompt."""
    names = list(answers)
    found: dict[str, dict[str, Metric]] = {}
    for before, after in itertools.pairwise(names):
        old, new = _values(answers[before]), _values(answers[after])
        found[f"{after} - {before}"] = {
            k: paired_difference(new[k], old[k]) for k in new if k in old and k != "kl"
        }
    return found
