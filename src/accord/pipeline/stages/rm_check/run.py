"""How far each reward model orders fresh answers as the raters do."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from accord.core.rundir import read_json
from accord.core.types import Edge, Exchange, Group
from accord.pipeline.context import StageContext, StageResult, data_store, read_result
from accord.pipeline.stages.ask import AskStage
from accord.pipeline.stages.data import held_out_prompts, world_of
from accord.pipeline.stages.rm_check import RmCheckStage
from accord.pipeline.work import Known, Read, Work, answered, fit
from accord.rewards.learned import load_reward_model
from accord.train.offline.reward import HeldOut, accuracy
from accord.worlds.base import World, truth

__all__ = ["run", "work"]


def run(ctx: StageContext[RmCheckStage]) -> StageResult:
    """Accuracy of each reward model on comparisons of fresh answers to held-out prompts."""
    config = ctx.config
    folder = ctx.stages[config.data]
    groups = _fresh_groups(folder)
    metrics, truths = {}, world_of(ctx, config.data)
    for name in config.models:
        model = load_reward_model(ctx.stages[name] / "model")
        held = [
            HeldOut(g, tuple(model([Exchange(prompt=g.prompt, response=r) for r in g.responses])))
            for g in groups
        ]
        metrics[name] = accuracy(held)
        if truths:
            true = [h for h in (_by_truth(h, truths) for h in held) if h.group.edges]
            metrics[f"{name}, against the true order"] = accuracy(true)
    policy = read_result(folder).facts["policy"]
    headline = f"on {policy}'s answers: " + "; ".join(f"{k} {m}" for k, m in metrics.items())
    return StageResult(metrics, [], {"policy": policy, "prompts": len(groups)}, headline)


def _fresh_groups(folder: Path) -> list[Group]:
    """Held-out comparisons between answers of this round."""
    opened, facts = data_store(folder)
    fresh = set(read_json(folder / "fresh.json")["responses"])
    with opened as store:
        groups = store.snapshot(facts["snapshot"]).groups()
        _, held = groups.split(test=facts["test"], seed=facts["seed"])
    fresh_groups = []
    for group in held:
        new = [r.id_for(group.prompt) in fresh for r in group.responses]
        edges = tuple(e for e in group.edges if new[e.better] and new[e.worse])
        if edges:
            fresh_groups.append(group.model_copy(update={"edges": edges}))
    return fresh_groups


def _by_truth(held: HeldOut, world: World) -> HeldOut:
    """The same comparisons as the truth orders them; those it does not order are left out."""
    case = world.by_prompt[held.group.prompt.id]
    values = [truth(world, case, r) for r in held.group.responses]
    edges = [
        Edge(better=b, worse=w)
        for e in held.group.edges
        for b, w in [(e.better, e.worse) if values[e.better] > values[e.worse] else (e.worse, e.better)]
        if abs(values[b] - values[w]) > 1e-9
    ]  # fmt: skip
    return HeldOut(held.group.model_copy(update={"edges": tuple(edges)}), held.scores)


def work(ctx: StageContext[RmCheckStage], known: Known) -> Work:
    config = ctx.config
    asked = cast(AskStage, known.configs[config.data])
    lengths = known.written(ctx, asked.policy, asked.max_new_tokens)
    prompts = fit(known, held_out_prompts(ctx, config.data), asked, ctx.name)[0][: asked.held_out]
    trees = answered(known.lm, prompts, asked.n, lengths)
    return Work([Read(trees, 1024, len(config.models), scalar=True)], uses=list(config.models))
