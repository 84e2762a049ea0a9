"""A grid of preference trainings over one base, and the point later stages see."""

from __future__ import annotations

from collections.abc import Mapping

from accord.core.rundir import write_json
from accord.core.types import Metric
from accord.lm.model.load import load
from accord.losses import choose_loss
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.preference import Preference
from accord.pipeline.stages.preference.run import read_judged, work_at
from accord.pipeline.stages.sweep import Sweep
from accord.pipeline.stages.training.run import write_rows
from accord.pipeline.work import Known, Work, limits_of
from accord.train.optimise import Optimise, Progress
from accord.train.preference import Material
from accord.train.sweep import LEAST, Outcome, Point, best, label_of, parts, sweep, use

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

    def on_point(number: int, point: Point) -> Progress:
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
    write_rows(ctx, material.trees(choose_loss(picked.point.loss))[0].items)
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
    said = dict(picked.reported or picked.metrics)
    return StageResult(said, [], facts, _headline(outcomes, picked))


def work(ctx: StageContext[Sweep], known: Known) -> Work:
    return work_at(ctx, known, [ctx.config.at(point) for point in ctx.config.points()])


def _plain(metrics: Mapping[str, Metric]) -> dict[str, object]:
    return {name: m.model_dump(mode="json") for name, m in metrics.items()}


def _point(label: str, config: Preference) -> Point:
    return Point(label, config.tune, Optimise(**config.optimise_keys()), config.loss)


def _headline(outcomes: list[Outcome], picked: Outcome) -> str:
    """Which point is used, whether the data can tell it from the next, and whether all measure the same."""
    m = picked.metrics.get("accuracy")
    if m is None:
        return f"{picked.point.label}: nothing is held out to choose by"
    told = f"best of {len(outcomes)}: {picked.point.label}, accuracy "
    if last := picked.reported.get("accuracy"):
        told += f"{last} of held-out comparisons it was not chosen by (chosen by others, at {m})"
    else:
        told += f"{m} of the held-out comparisons it was chosen by, so flattered: too few prompts are held "
        told += f"out to report on others ({2 * LEAST} and more)"
    others = [
        o.metrics["accuracy"] for o in outcomes if o is not picked and "accuracy" in o.metrics
    ]
    near = sum(_overlap(m, other) for other in others)
    told += f"; {near} of the others can't be told from it" if near else ""
    kinds = {_measure(o) for o in outcomes}
    if len(kinds) > 1:
        told += f"; accuracies are not of one kind ({', '.join(sorted(kinds))}): compare such points by eval"
    return told


def _measure(outcome: Outcome) -> str:
    """What the accuracy of the point's loss is taken of."""
    loss = choose_loss(outcome.point.loss)
    if loss.family == "unpaired":
        return "single answers"
    of = "log-ratios" if loss.facts["needs_reference"] else "log-probs"
    return f"mean {of}" if loss.facts["per_token"] else of


def _overlap(a: Metric, b: Metric) -> bool:
    return a.low is None or b.high is None or b.high >= a.low
