"""Sample the policies, measure how far they moved and what came of it, beside best-of-n of the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from accord.core.rundir import write_json, write_jsonl
from accord.core.types import Metric
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.compare.models import add_rewards
from accord.pipeline.stages.data import world_of
from accord.pipeline.stages.kl_frontier import KL, POINTS, RATIO, REWARD, KlFrontierStage
from accord.pipeline.stages.kl_frontier.answers import answers
from accord.pipeline.stages.kl_frontier.figures import (
    ScoredAnswers,
    best_of,
    doublings,
    policy_figures,
)
from accord.pipeline.stages.kl_frontier.headline import headline
from accord.worlds.base import World

__all__ = ["run"]

Row = dict[str, Any]
UNKNOWN = "the truth of {data} is not known: no gold, and no right orders"


def run(ctx: StageContext[KlFrontierStage]) -> StageResult:
    """Sample, score, and set policies and best-of-n beside each other."""
    config, world = ctx.config, world_of(ctx, ctx.config.data)
    rows, notes = answers(ctx, world)
    notes += add_rewards(ctx, config.reward, rows)
    notes += [] if world else [UNKNOWN.format(data=config.data)]
    for name, own in rows.items():
        write_jsonl(ctx.folder / f"{name}.jsonl", own)
    answered = {name: _answered(own, config.n, world) for name, own in rows.items()}
    reference = answered[config.reference]
    points = {name: policy_figures(own, reference) for name, own in answered.items()}
    best = {n: best_of(reference, n) for n in doublings(config.n)}
    plain = {
        "truth": reference.truth.model_dump(mode="json") if reference.truth else None,
        "policies": {name: _plain(figures) for name, figures in points.items()},
        "best_of": {n: _plain(figures) for n, figures in best.items()},
    }
    write_json(ctx.folder / POINTS, plain)
    every = points | {f"best of {n}": figures for n, figures in best.items()}
    flat = {f"{name} {key}": m for name, figures in every.items() for key, m in figures.items()}
    facts = {"policies": list(points), "prompts": len(reference.clusters), "n": config.n}
    return StageResult(flat, notes, facts, headline(config, points, best, reference.truth))


def _answered(rows: list[Row], n: int, world: World | None) -> ScoredAnswers:
    truth = world.measures[0] if world else None
    of = {name: [row[name] for row in rows] for name in (REWARD.name, KL.name, RATIO.name)}
    if truth:
        of[truth.name] = [row["gold"][truth.name] for row in rows]
    values = {name: np.array(own, dtype=float).reshape(-1, n) for name, own in of.items()}
    clusters = [str(row.get("cluster", row["prompt_id"])) for row in rows[::n]]
    return ScoredAnswers(values, clusters, truth)


def _plain(figures: dict[str, Metric]) -> Row:
    return {key: m.model_dump(mode="json") for key, m in figures.items()}
