"""Fit a process reward model to labelled steps."""

from __future__ import annotations

from accord.core.types import LabelledSteps
from accord.lm.model.load import load
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.pipeline.stages.process import Process
from accord.pipeline.stages.training.run import but_its_fold, check_any, common, result
from accord.pipeline.work import Known, Work, learnt, limits_of, read
from accord.train.offline.process import step_trees, train_process

__all__ = ["run", "work"]


def run(ctx: StageContext[Process]) -> StageResult:
    """Fit a process reward model to labelled steps."""
    config = ctx.config
    train, held, left_out = read_steps(ctx, config)
    check_any(ctx, train, "labelled steps")
    trained = train_process(
        load(ctx.policy(config.init)), train, eval_on=held, **common(ctx, config)
    )
    stage_result = result(ctx, trained, "accuracy", "of held-out steps")
    stage_result.facts["not_used"] = left_out
    return stage_result


def read_steps(
    ctx: StageContext[Process], config: Process
) -> tuple[list[LabelledSteps], list[LabelledSteps], dict[str, int]]:
    """Labelled steps, training and held out, and what was left out."""
    store, facts = data_store(ctx.stages[config.data])
    with store:
        steps = store.snapshot(facts["snapshot"]).stepped()
        train, held = steps.split(test=facts["test"], seed=facts["seed"])
    kept, notes = but_its_fold(train, config, facts["seed"])
    return kept[: config.limit], list(held)[: config.eval_limit], {**steps.notes, **notes}


def work(ctx: StageContext[Process], known: Known) -> Work:
    config = ctx.config
    train, held = (
        step_trees(known.lm, part, limits_of(config)) for part in read_steps(ctx, config)[:2]
    )
    learn = learnt(config, train.for_training().trees, scalar=True)
    return Work([learn, read(config, held.trees, scalar=True)])
