"""A policy's answers to held-out prompts, scored by every evaluation that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.core.measure import decisive
from accord.core.rundir import write_jsonl
from accord.core.types import Exchange, Metric, Prompt, Response
from accord.evals.base import DEFAULT, EvaluationContext, scored
from accord.lm.model.load import load
from accord.lm.room import check_some, fitting, left_out_notes
from accord.pipeline.answers import answer_row, metrics_of
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import held_out_prompts, world_of
from accord.pipeline.stages.eval import EvalStage
from accord.pipeline.stages.eval.answers import sampled, score_rows

__all__ = ["run"]

Row = dict[str, Any]


def run(ctx: StageContext[EvalStage]) -> StageResult:
    """Answer the held-out prompts, and score the answers by every evaluation."""
    config = ctx.config
    name = config.policies[0]
    lm = load(ctx.policy(name))
    every = held_out_prompts(ctx, config.data)
    prompts, left_out = fitting(lm, every, config.max_new_tokens, config.max_prompt)
    check_some(prompts, left_out, f"stage {ctx.name}")
    for text in left_out_notes(left_out):
        ctx.reporter.note(text)
    exchanges = [e for (e,) in sampled(ctx, name, lm, prompts[: config.prompts])]
    context = EvaluationContext(world_of(ctx, config.data))
    rows = [answer_row(e, context.world) for e in exchanges]
    metrics: dict[str, Metric] = {}
    for evaluation in config.evaluations():
        own = score_rows(ctx, evaluation, context, lm, exchanges)
        if own is not None:
            clusters = [str(row.get("cluster", row["prompt_id"])) for row in rows]
            metrics |= metrics_of(evaluation.measures(context), own, clusters)
            for row, its in zip(rows, own, strict=True):
                row |= {evaluation.name: its} if its else {}
    write_jsonl(ctx.folder / "answers.jsonl", rows)
    shown = decisive({k: m.measure for k, m in metrics.items() if m.measure})
    figure = f"{shown.name} {metrics[shown.name]}" if shown else f"{len(rows)} answers"
    headline = f"{name}: {figure} on held-out prompts"
    facts: Row = {"policy": name, "data": config.data, "left_out": dict(left_out)}
    if floors := _floors(config, context, [e.prompt for e in exchanges]):
        facts["floors"] = floors
    return StageResult(metrics, [*lm.notes, *left_out_notes(left_out)], facts, headline)


def _floors(config: EvalStage, context: EvaluationContext, prompts: Sequence[Prompt]) -> Row:
    """What answers score that take no skill, where the world has some: by name, by measure."""
    world = context.world
    write = getattr(world, "floors", None)
    if world is None or write is None:
        return {}
    cases = [c for p in prompts if (c := world.by_prompt.get(p.id))]
    answers: dict[str, list[Exchange]] = {}
    for case in cases:
        for name, text in write(case).items():
            reply = Exchange(prompt=case.prompt, response=Response(text=text, finish="stop"))
            answers.setdefault(name, []).append(reply)
    floors: dict[str, Row] = {}
    for name, replies in answers.items():
        own = [world.by_prompt[e.prompt.id].group or e.prompt.id for e in replies]
        for evaluation in config.evaluations():
            free = evaluation.name in DEFAULT  # another may ask a model
            if free and (rows := scored(evaluation, context, replies)) is not None:
                for k, m in metrics_of(evaluation.measures(context), rows, own).items():
                    floors.setdefault(name, {})[k] = m.model_dump(mode="json")
    return floors
