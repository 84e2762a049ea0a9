"""Every policy's answers as rows, and how far each moved from the reference's."""

from __future__ import annotations

from typing import Any

from accord.core.types import Exchange, Prompt
from accord.lm.kernels.allocator import release_freed_memory
from accord.lm.model.load import LanguageModel, load
from accord.lm.room import check_some, fitting, left_out_notes
from accord.lm.trees.engine import Engine
from accord.pipeline.answers import answer_row
from accord.pipeline.context import StageContext
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.eval.answers import sampled
from accord.pipeline.stages.kl_frontier import KL, RATIO, KlFrontierStage
from accord.pipeline.stages.kl_frontier.moved import engine_at, moved
from accord.worlds.base import World

__all__ = ["answers"]

Row = dict[str, Any]
Context = StageContext[KlFrontierStage]


def answers(ctx: Context, world: World | None) -> tuple[dict[str, list[Row]], list[str]]:
    """Rows of all answers by policy, the reference's first, n to a prompt; and what is said of prompts left
    out. No more than two models at once."""
    config = ctx.config
    lm = load(ctx.policy(config.reference))
    prompts, notes = _prompts(ctx, lm, world)
    there = sampled(ctx, config.reference, lm, prompts, config.n)
    still = {KL.name: 0.0, RATIO.name: 0.0}
    rows = {config.reference: [_row(e, world) | still for some in there for e in some]}
    reference = engine_at(lm, config.temperature)
    for name in config.sampled[1:]:
        rows[name] = _of_policy(ctx, name, prompts, reference, world)
        release_freed_memory()
    return rows, notes


def _prompts(
    ctx: Context, lm: LanguageModel, world: World | None
) -> tuple[list[Prompt], list[str]]:
    config = ctx.config
    every = held_out_prompts(ctx, config.data)
    kept, left_out = fitting(lm, every, config.max_new_tokens, config.max_prompt)
    known = [p for p in kept if world is None or p.id in world.by_prompt]
    if len(known) < len(kept):
        left_out["no truth is known of them"] = len(kept) - len(known)
    check_some(known, left_out, f"stage {ctx.name}")
    return known[: config.prompts], left_out_notes(left_out)


def _of_policy(
    ctx: Context, name: str, prompts: list[Prompt], reference: Engine, world: World | None
) -> list[Row]:
    config = ctx.config
    lm = load(ctx.policy(name))
    own = [e for some in sampled(ctx, name, lm, prompts, config.n) for e in some]

    def progress(done: int, n: int) -> None:
        ctx.reporter.progress(done, n, f"KL of {name}")

    apart = moved(lm, engine_at(lm, config.temperature), reference, own, progress)
    return [
        _row(e, world) | {KL.name: kl, RATIO.name: ratio}
        for e, (kl, ratio) in zip(own, apart, strict=True)
    ]


def _row(exchange: Exchange, world: World | None) -> Row:
    row = answer_row(exchange, world)
    if world:
        row["gold"] = world.gold(world.by_prompt[exchange.prompt.id], exchange.response)
    return row
