"""Fine-tune on a snapshot's demonstrations, or on its chosen responses."""

from __future__ import annotations

from collections.abc import Sequence

from accord.core.types import Demonstration, Group
from accord.lm.model.load import load
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.sft import Sft
from accord.pipeline.stages.training.run import (
    check_any,
    common,
    read_groups,
    result,
    snapshot_demonstrations,
)
from accord.pipeline.work import Known, Work, evaluations, learnt, limits_of, read
from accord.train.loop.data import best_response, demonstration_trees
from accord.train.offline.sft import train_sft

__all__ = ["read_demonstrations", "run", "work", "writes"]


def run(ctx: StageContext[Sft]) -> StageResult:
    """Fine-tune on demonstrations (or on the chosen responses)."""
    config = ctx.config
    train, held = read_demonstrations(ctx, config)
    check_any(ctx, train, config.on)
    trained = train_sft(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        all_turns=config.all_turns,
        **common(ctx, config),
    )
    return result(ctx, trained, "nll", "nats per held-out token")


def read_demonstrations(
    ctx: StageContext[Sft], config: Sft
) -> tuple[list[Demonstration], list[Demonstration]]:
    """What SFT imitates, training and held out."""
    if config.on == "demonstrations":
        return snapshot_demonstrations(ctx, config)
    train, held, _ = read_groups(ctx, config)
    return [_best(g) for g in train if g.edges], [_best(g) for g in held if g.edges]


def _best(group: Group) -> Demonstration:
    response = group.responses[best_response(group)]
    return Demonstration(prompt=group.prompt, response=response, sources=group.sources)


def work(ctx: StageContext[Sft], known: Known) -> Work:
    config = ctx.config
    train, held = (
        demonstration_trees(known.lm.tokenizer, part, limits_of(config), all_turns=config.all_turns)
        for part in read_demonstrations(ctx, config)
    )
    learn = learnt(config, train.for_training().trees)
    times = evaluations(config, len(train.trees))
    return Work([learn, read(config, held.trees, times, scalar=False)])


def writes(ctx: StageContext[Sft], known: Known, policy: str, most: int) -> Sequence[int]:
    """Answers as long as what it was taught."""
    if policy not in known.taught:
        config = known.configs[policy]
        assert isinstance(config, Sft)
        train, _ = read_demonstrations(ctx, config)
        shown = demonstration_trees(known.lm.tokenizer, train, limits_of(config), all_turns=False)
        known.taught[policy] = [len(c) for tree in shown.trees for c in tree.completions]
    return [min(n, most) for n in known.taught[policy]] or [most]
