"""A policy's own answers to some prompts, kept as they come: a stage that is killed asks nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.core.types import Prompt, Response
from accord.evals.kept import replies
from accord.lm.model.chain import identity
from accord.lm.model.load import LanguageModel
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.pipeline.context import StageContext

__all__ = ["own_answers"]


def own_answers(
    ctx: StageContext[Any],
    policy: str,
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    how: Sampling,
    about: str,
) -> list[list[Response]]:
    """Its answers to each prompt, in order, sampled in batches of the stage's `batch_size`; those that this
    very policy has given to these prompts before, under these settings, are kept ones."""
    source = f"model:{policy}"
    sampler = LocalSampler(lm, batch_size=ctx.config.batch_size, source=source)
    total = len(prompts) * how.n

    def sample(part: Sequence[Prompt], before: int) -> list[list[Response]]:
        start = before * how.n
        return sampler(part, how, lambda d, n: ctx.reporter.progress(start + d, total, about))

    parts = sampler.parts(prompts, how.n)
    facts = {**how.model_dump(), "batch_size": ctx.config.batch_size}
    kept = replies(ctx.cache_folder, identity(ctx.policy(policy)), prompts, facts, sample, parts)
    return [
        [e.response.model_copy(update={"source": source}) for e in exchanges] for exchanges in kept
    ]
