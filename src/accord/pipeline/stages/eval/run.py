"""A policy's answers to held-out prompts, scored where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.core.rundir import write_jsonl
from accord.core.types import Metric, Prompt, Response
from accord.evals.support import AXES, World, gold
from accord.lm.load import load
from accord.lm.room import check_some, fitting, said
from accord.lm.sample import LocalSampler, Sampling
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import held_out_prompts, world_of
from accord.pipeline.stages.eval import Eval
from accord.pipeline.work import Answer, Known, Work, fit
from accord.stats.intervals import mean, proportion

__all__ = ["measured", "run", "work"]

SHARES = {"accuracy", "resolution", "escalation", "tone"}


def run(ctx: StageContext[Eval]) -> StageResult:
    """Answer the held-out prompts; score by gold where the world's truth is known."""
    config = ctx.config
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
        axis: measured(axis, [r["gold"][axis] for r in rows if "gold" in r])
        for axis in ("gold", *AXES)
        if any("gold" in r for r in rows)
    }
    cut = sum(r["response"]["finish"] == "length" for r in rows)
    return {
        **metrics,
        "words": mean([r["words"] for r in rows]),
        "cut off": proportion(cut, len(rows)),
    }


def measured(name: str, values: Sequence[float]) -> Metric:
    """The mean with its interval; of an axis that is 0 or 1, a share."""
    return proportion(sum(values), len(values)) if name in SHARES else mean(values)


def work(ctx: StageContext[Eval], known: Known) -> Work:
    config = ctx.config
    prompts, long = fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[: config.prompts]
    lengths = known.written(ctx, config.policies[0], config.max_new_tokens)
    answer = Answer(prompts, 1, lengths, config.max_new_tokens, config.batch_size)
    return Work([answer], uses=list(config.policies), said=long)
