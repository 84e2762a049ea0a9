"""A grid of preference trainings over one base, and the point later stages see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.core.rundir import write_json
from accord.lm.model.load import load
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.preference import PreferenceStage
from accord.pipeline.stages.preference.run import read_judged, work_at
from accord.pipeline.stages.sweep import Sweep
from accord.pipeline.stages.sweep.headline import headline
from accord.pipeline.stages.training.run import write_rows
from accord.pipeline.work import Known, Work, limits_of
from accord.train.loop.optimise import Optimise, Progress
from accord.train.offline.preference import Material
from accord.train.offline.sweep import GridPoint, best, label_of, learnt_from, parts, sweep, use

__all__ = ["run", "work"]


def run(ctx: StageContext[Sweep]) -> StageResult:
    """Train every point of the grid, tell them apart, pick one."""
    config = ctx.config
    grid = config.points()
    at = [config.at(point) for point in grid]
    train, held, left_out = read_judged(ctx, at[0], [stage.loss for stage in at])
    choose, report = parts(held, ctx.seed)
    material = Material(
        load(ctx.policy(config.init)),
        train,
        choose,
        limits_of(config),
        config.average,
        config.share,
        assorted=True,
        reported=report,
    )
    points = [_point(label_of(g), stage) for g, stage in zip(grid, at, strict=True)]

    def on_point(number: int, point: GridPoint) -> Progress:
        def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
            ctx.reporter.progress(done, total, f"point {number + 1}/{len(points)} {point.label}")

        return on_step

    outcomes = sweep(
        material,
        points,
        ctx.folder,
        seed=ctx.seed,
        cache=ctx.cache_folder / "reference",
        trackers=ctx.trackers,
        on_point=on_point,
        tell=ctx.reporter.note,
    )
    picked = best(outcomes)
    use(picked, material, ctx.folder)
    write_rows(ctx, learnt_from(picked, material))
    rows = [
        {
            "label": o.point.label,
            "point": g,
            "folder": o.folder.name,
            "failed": o.failed,
            "picked": o is picked,
            "metrics": _plain(o.reported or o.metrics),
            "chosen_by": _plain(o.metrics),
            "apart": bool(o.reported),
        }
        for o, g in zip(outcomes, grid, strict=True)
    ]
    write_json(ctx.folder / "sweep.json", rows)
    facts = {
        "points": len(points),
        "failed": sum(bool(o.failed) for o in outcomes),
        "init": config.init,
        "data": config.data,
        "not_used": left_out,
        "loss": picked.point.loss,
    }
    metrics = dict(picked.reported or picked.metrics)
    return StageResult(metrics, [], facts, headline(outcomes, picked))


def work(ctx: StageContext[Sweep], known: Known) -> Work:
    return work_at(ctx, known, [ctx.config.at(point) for point in ctx.config.points()])


def _plain(metrics: Mapping[str, Any]) -> dict[str, object]:
    return {name: m.model_dump(mode="json") for name, m in metrics.items()}


def _point(label: str, config: PreferenceStage) -> GridPoint:
    return GridPoint(label, config.tune, Optimise(**config.optimise_keys()), config.loss)
