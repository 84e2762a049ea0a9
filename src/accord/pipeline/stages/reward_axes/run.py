"""Fit a reward model with a head for each axis."""

from __future__ import annotations

from accord.core.errors import DataError
from accord.core.types import Group
from accord.lm.model.load import load
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.pipeline.stages.reward_axes import RewardAxes
from accord.pipeline.stages.training.run import but_its_fold, check_any, common, result
from accord.pipeline.work import Known, Work, scored
from accord.train.offline.axes import merged, train_axes

__all__ = ["run", "work"]


def run(ctx: StageContext[RewardAxes]) -> StageResult:
    """Fit a reward model with a head for each axis of the ratings."""
    config = ctx.config
    train, held = read_axes(ctx, config)
    check_any(ctx, [g for groups in train.values() for g in groups], "ratings that differ")
    trained = train_axes(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        average=config.average,
        **common(ctx, config),
    )
    first = next(iter(train))
    return result(ctx, trained, f"accuracy of {first}", "of held-out comparisons")


def read_axes(
    ctx: StageContext[RewardAxes], config: RewardAxes
) -> tuple[dict[str, list[Group]], dict[str, list[Group]]]:
    """What the ratings say on each axis, training and held out."""
    store, facts = data_store(ctx.stages[config.data])
    train: dict[str, list[Group]] = {}
    held: dict[str, list[Group]] = {}
    with store:
        snapshot = store.snapshot(facts["snapshot"])
        known = snapshot.axes()
        if unknown := [a for a in config.axes if a not in known]:
            raise DataError(
                f"no rating has the axis {unknown[0]!r}", where=f"stage {ctx.name}",
                mend=f"the ratings have: {', '.join(known) or 'no axis'}",
            )  # fmt: skip
        for axis in config.axes or known:
            groups = snapshot.groups(axis=axis)
            one, other = groups.split(test=facts["test"], seed=facts["seed"])
            kept, _ = but_its_fold(one, config, facts["seed"])
            train[axis], held[axis] = kept[: config.limit], other[: config.eval_limit]
    return train, held


def work(ctx: StageContext[RewardAxes], known: Known) -> Work:
    sides = [merged(side)[0] for side in read_axes(ctx, ctx.config)]
    return scored(ctx.config, known, sides)[0]
