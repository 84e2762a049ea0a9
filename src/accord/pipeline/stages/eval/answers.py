"""One answer to each prompt, kept under policy, prompts and sampling."""

from __future__ import annotations

from collections.abc import Sequence

from accord.core.types import Exchange, Prompt, Response
from accord.evals.kept import replies
from accord.lm.model.chain import identity
from accord.lm.model.load import LanguageModel
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.pipeline.context import StageContext
from accord.pipeline.stages.eval import EvalStage

__all__ = ["sampled"]


def sampled(
    ctx: StageContext[EvalStage], name: str, lm: LanguageModel, prompts: Sequence[Prompt]
) -> list[Exchange]:
    """One answer to each prompt: kept ones, where this very policy has answered these prompts so before."""
    config, source = ctx.config, f"model:{name}"
    how = Sampling(
        max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=ctx.seed
    )

    def sample() -> list[Response]:
        sampler = LocalSampler(lm, batch_size=config.batch_size, source=source)
        done = sampler(prompts, how, lambda d, n: ctx.reporter.progress(d, n, "answers"))
        return [responses[0] for responses in done]

    facts = {**how.model_dump(), "batch_size": config.batch_size}
    kept = replies(ctx.cache_folder, identity(ctx.policy(name)), prompts, facts, sample)
    own = {"source": source}
    return [e.model_copy(update={"response": e.response.model_copy(update=own)}) for e in kept]
