"""The prompts that a training on own answers reads."""

from __future__ import annotations

from typing import Any

from accord.core.types import Prompt
from accord.pipeline.context import StageContext, data_store
from accord.pipeline.stages.data import prompts_of
from accord.pipeline.stages.on_policy import OnPolicyStage
from accord.store import split_of

__all__ = ["read_prompts"]


def read_prompts(
    ctx: StageContext[Any], config: OnPolicyStage
) -> tuple[list[Prompt], list[Prompt]]:
    """Training and held-out prompts, in an order fixed by their ids."""
    opened, facts = data_store(ctx.stages[config.data])
    parts: dict[str, list[Prompt]] = {"train": [], "test": []}
    with opened as store:
        for prompt in prompts_of(ctx.stages[config.data], store.prompts()):
            parts[split_of(prompt.id, facts["test"], facts["seed"])].append(prompt)
    train, held = (sorted(parts[name], key=lambda p: p.id) for name in ("train", "test"))
    return train[: config.limit], held[: config.eval_limit]
