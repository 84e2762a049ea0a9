"""Fit a reward model to comparisons; centre it on the demonstrations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from accord.core.rundir import write_jsonl
from accord.core.types import Edge
from accord.lm.model.load import load
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import world_of
from accord.pipeline.stages.reward import TRUE, RewardStage, probed
from accord.pipeline.stages.training.run import (
    check_any,
    common,
    read_groups,
    result,
    snapshot_demonstrations,
)
from accord.pipeline.work import Known, Work, limits_of, read, scored
from accord.stats.intervals import cluster_mean
from accord.train.loop.data import demonstration_trees
from accord.train.offline.reward import HeldOut, some, train_reward
from accord.worlds.base import World, truth

__all__ = ["run", "work"]


def run(ctx: StageContext[RewardStage]) -> StageResult:
    """Fit a reward model; centre it on the demonstrations."""
    config = ctx.config
    train, held, left_out = read_groups(ctx, config)
    check_any(ctx, train, "comparisons")
    trained = train_reward(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        loss=config.loss,
        average=config.average,
        centre_on=snapshot_demonstrations(ctx, config)[0],
        **common(ctx, config),
    )
    rows = _pair_rows(trained.held_out, world_of(ctx, config.data))
    write_jsonl(ctx.folder / "held_out.jsonl", rows)
    stage_result = result(ctx, trained, "accuracy", "of held-out comparisons")
    known = [r for r in rows if r.get("truth")]
    if known:
        hits = [0.5 if r["gap"] == 0 else float(r["gap"] * r["truth"] > 0) for r in known]
        true = cluster_mean(hits, [r["prompt"] for r in known])
        stage_result.metrics[TRUE] = true
        stage_result.headline += f"; {true} against the true order"
    stage_result.facts["not_used"] = left_out
    if config.probe and held:
        probed.keep(ctx, held, world_of(ctx, config.data))
    return stage_result


def _pair_rows(held: Sequence[HeldOut], world: World | None) -> list[dict[str, Any]]:
    """Every pair of held-out responses: score gap, raters' label and, where known, the truth.

    Pairs are oriented as the raters judged them; a pair they split evenly has p = 0.5.
    """
    rows: list[dict[str, Any]] = []
    for h in held:
        judged = {frozenset((e.better, e.worse)): e for e in h.group.edges}
        for i, j in itertools.combinations(range(len(h.scores)), 2):
            edge = judged.get(frozenset((i, j)), Edge(better=i, worse=j, p=0.5, agreement=0.5))
            better, worse = (h.group.responses[k] for k in (edge.better, edge.worse))
            row = {
                "prompt": h.group.prompt.id,
                "better": better.text,
                "worse": worse.text,
                "gap": h.gap(edge),
                "p": edge.p,
                "agreement": edge.agreement,
                "sources": list(edge.sources),
            }
            if world and (case := world.by_prompt.get(h.group.prompt.id)):
                apart = truth(world, case, better) - truth(world, case, worse)
                row["truth"] = 0 if abs(apart) < 1e-9 else 1 if apart > 0 else -1
            rows.append(row)
    return rows


def work(ctx: StageContext[RewardStage], known: Known) -> Work:
    """What it is centred on, the demonstrations or what it learnt from, is read once more."""
    config = ctx.config
    planned, train = scored(config, known, read_groups(ctx, config)[:2])
    shown = snapshot_demonstrations(ctx, config)[0]
    trees = demonstration_trees(known.lm.tokenizer, shown, limits_of(config), all_turns=False).trees
    planned.parts.append(read(config, some(trees or train.trees), scalar=True))
    return planned
