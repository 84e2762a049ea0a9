"""A policy's answers to held-out prompts, scored by every evaluation that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.measure import Measure, decisive
from accord.core.rundir import write_jsonl
from accord.core.types import Exchange, Metric, Prompt, Response
from accord.evals.base import DEFAULT, EvaluationContext, measured, scored
from accord.evals.kept import scores
from accord.lm.model.load import load
from accord.lm.room import check_some, fitting, left_out_notes
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import held_out_prompts, world_of
from accord.pipeline.stages.eval import EvalStage
from accord.pipeline.stages.eval.answers import sampled

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
    exchanges = sampled(ctx, name, lm, prompts[: config.prompts])
    context = EvaluationContext(world_of(ctx, config.data))
    rows = [_row(e, context) for e in exchanges]
    metrics: dict[str, Metric] = {}
    for evaluation in config.evaluations():
        score_rows = scores(ctx.cache_folder, evaluation, context, exchanges)
        if score_rows is not None:
            clusters = [str(row.get("cluster", row["prompt_id"])) for row in rows]
            metrics |= _metrics(evaluation.measures(context), score_rows, clusters)
            for row, its in zip(rows, score_rows, strict=True):
                row |= {evaluation.name: its} if its else {}
    write_jsonl(ctx.folder / "answers.jsonl", rows)
    shown = decisive({k: m.measure for k, m in metrics.items() if m.measure})
    figure = f"{shown.name} {metrics[shown.name]}" if shown else f"{len(rows)} answers"
    headline = f"{name}: {figure} on held-out prompts"
    facts: Row = {"policy": name, "data": config.data, "left_out": dict(left_out)}
    if floors := _floors(config, context, [e.prompt for e in exchanges]):
        facts["floors"] = floors
    return StageResult(metrics, [*lm.notes, *left_out_notes(left_out)], facts, headline)


def _row(exchange: Exchange, context: EvaluationContext) -> Row:
    row: Row = {
        "prompt_id": exchange.prompt.id,
        "prompt": exchange.prompt.model_dump(mode="json"),
        "response": exchange.response.model_dump(mode="json"),
        "words": len(exchange.response.text.split()),
    }
    if context.world and (case := context.world.by_prompt.get(exchange.prompt.id)):
        row["case"] = case.kind
        row |= {"cluster": case.group} if case.group else {}
    return row


def _metrics(
    measures: Sequence[Measure], rows: Sequence[Mapping[str, float]], clusters: Sequence[str]
) -> dict[str, Metric]:
    """Every measure over the replies that have it; none where none has."""
    metrics = {}
    for m in measures:
        there = [(row[m.name], c) for row, c in zip(rows, clusters, strict=True) if m.name in row]
        if there:
            values, own = zip(*there, strict=True)
            metrics[m.name] = measured(m, values, own)
    return metrics


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
                for k, m in _metrics(evaluation.measures(context), rows, own).items():
                    floors.setdefault(name, {})[k] = m.model_dump(mode="json")
    return floors
