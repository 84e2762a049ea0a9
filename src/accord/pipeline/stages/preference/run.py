"""Train a policy on comparisons, or on single answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.types import LabelledResponse
from accord.lm.model.load import load
from accord.losses import choose_loss
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.pipeline.stages.preference import PreferenceStage
from accord.pipeline.stages.training.run import check_any, common, read_groups, result
from accord.pipeline.work import Known, Work, evaluations, learnt, limits_of, read
from accord.train.loop.data import best_against_rest
from accord.train.offline.preference import Judged, Material, train_preference

__all__ = ["read_judged", "run", "work", "work_at"]


def run(ctx: StageContext[PreferenceStage]) -> StageResult:
    """DPO and its family."""
    config = ctx.config
    train, held, left_out = read_judged(ctx, config)
    trained = train_preference(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        loss=config.loss,
        average=config.average,
        share=config.share,
        cache=ctx.cache_folder / "reference",
        on_reference=lambda done, n: ctx.reporter.progress(done, n, "reference log-probs"),
        **common(ctx, config),
    )
    of = {"unpaired": "judged answers"}.get(choose_loss(config.loss).family, "comparisons")
    stage_result = result(ctx, trained, "accuracy", f"of held-out {of}")
    stage_result.facts["not_used"] = left_out
    return stage_result


def read_judged(
    ctx: StageContext[Any], config: PreferenceStage, losses: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[Judged], list[Judged], dict[str, int]]:
    """What policy losses (the stage's own by default) learn from, training and held out: comparisons, and
    where one is a loss of single answers thumbs as well."""
    train, held, left_out = read_groups(ctx, config)
    if config.pairs == "best":
        train, held = (
            [g for g in map(best_against_rest, part) if g.edges] for part in (train, held)
        )
    judged: tuple[list[Judged], list[Judged]] = ([*train], [*held])
    if any(choose_loss(x).family == "unpaired" for x in losses or [config.loss]):
        thumbs = _snapshot_thumbs(ctx, config)
        judged = ([*train, *thumbs[0]], [*held, *thumbs[1]])
    check_any(ctx, judged[0], "comparisons")
    return *judged, left_out


def _snapshot_thumbs(
    ctx: StageContext[Any], config: PreferenceStage
) -> tuple[list[LabelledResponse], list[LabelledResponse]]:
    store, facts = data_store(ctx.stages[config.data])
    with store:
        thumbs = store.snapshot(facts["snapshot"]).labelled()
        if not len(thumbs):
            return [], []
        train, held = thumbs.split(test=facts["test"], seed=facts["seed"])
    return list(train)[: config.limit], list(held)[: config.eval_limit]


def work(ctx: StageContext[PreferenceStage], known: Known) -> Work:
    return work_at(ctx, known, [ctx.config])


def work_at(ctx: StageContext[Any], known: Known, points: Sequence[PreferenceStage]) -> Work:
    """A reference is read once; held-out answers are measured at the end."""
    config = ctx.config
    train, held, _ = read_judged(ctx, points[0], [point.loss for point in points])
    material = Material(known.lm, train, held, limits_of(config), config.average, config.share)
    planned, has_read = Work(), False
    for point in points:
        chosen = choose_loss(point.loss)
        data, other = material.trees(chosen)
        if chosen.facts["needs_reference"] and not has_read:
            planned.parts.append(read(point, [*data.trees, *other.trees], scalar=False))
            has_read = True
        times = evaluations(point, len(data.trees)) + (not chosen.facts["needs_reference"])
        planned.parts += [
            learnt(point, data.trees), read(point, other.trees, times, scalar=False)
        ]  # fmt: skip
    return planned
