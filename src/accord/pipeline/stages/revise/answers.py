"""The answers that are revised: the policy's own to some training prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.core.seeds import derive_seed, rng
from accord.core.types import Prompt, Response
from accord.lm.model.load import load
from accord.lm.room import check_some, fitting, left_out_notes
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.pipeline.context import StageContext
from accord.pipeline.own_answers import own_answers
from accord.pipeline.stages.data import prompts_of
from accord.pipeline.stages.revise import ReviseStage
from accord.store import Store, split_of

__all__ = ["first_answers", "room_of"]

REQUESTS = 96  # tokens of the two requests beside what is answered


def room_of(config: ReviseStage) -> int:
    """Tokens that stand behind a prompt when its last revision is written."""
    return 2 * config.max_new_tokens + config.critique_tokens + REQUESTS


def first_answers(
    ctx: StageContext[ReviseStage], store: Store, facts: Mapping[str, Any]
) -> tuple[list[Prompt], list[Response], LocalSampler, list[str]]:
    """Prompts, an answer to each, the policy's sampler, what is said of prompts that are too long. Those that
    it answers with nothing are left out."""
    config = ctx.config
    lm = load(ctx.policy(config.policy))
    every = prompts_of(ctx.stages[config.data], store.prompts())
    kept, left_out = fitting(lm, every, room_of(config), config.max_prompt)
    check_some(kept, left_out, f"stage {ctx.name}")
    mine = [p for p in kept if split_of(p.id, facts["test"], facts["seed"]) == "train"]
    mine.sort(key=lambda p: p.id)
    draw = rng(ctx.seed, ctx.name, "prompts")
    prompts = draw.sample(mine, min(config.prompts, len(mine)))
    sampler = LocalSampler(lm, batch_size=config.batch_size, source=f"model:{config.policy}")
    how = Sampling(
        temperature=config.temperature, max_new_tokens=config.max_new_tokens,
        seed=derive_seed(ctx.seed, ctx.name),
    )  # fmt: skip
    done = own_answers(ctx, config.policy, lm, prompts, how, "answers")
    answered = [(p, rs[0]) for p, rs in zip(prompts, done, strict=True) if rs[0].text.strip()]
    return (
        [p for p, _ in answered],
        [response for _, response in answered],
        sampler,
        left_out_notes(left_out),
    )
