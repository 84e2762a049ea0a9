"""Answers to each prompt, kept under policy, prompts and sampling, and what evaluations say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accord.core.types import Exchange, Prompt
from accord.evals.asking import Asker
from accord.evals.base import ChosenEvaluation, EvaluationContext, scored
from accord.evals.kept import scores
from accord.judges.backends import SamplerBackend
from accord.lm.model.load import LanguageModel
from accord.lm.options import ScoringSampler
from accord.lm.sampler import Sampling
from accord.pipeline.context import StageContext
from accord.pipeline.own_answers import own_answers
from accord.pipeline.stages.eval import EvalStage

__all__ = ["sampled", "score_rows"]


def score_rows(
    ctx: StageContext[EvalStage],
    evaluation: ChosenEvaluation,
    context: EvaluationContext,
    lm: LanguageModel,
    exchanges: Sequence[Exchange],
) -> list[dict[str, float]] | None:
    """The scores of each answer. An evaluation that asks the policy itself asks it anew: which requests stand
    together decides their last bits, and a stage that was killed ends with the same bytes."""
    if not evaluation.asks:
        return scores(ctx.cache_folder, evaluation, context, exchanges)
    how = Sampling(max_new_tokens=ctx.config.max_new_tokens, temperature=0.0, seed=ctx.seed)
    sampler = ScoringSampler(lm, batch_size=ctx.config.batch_size)
    asker = Asker(lm.name, sampler, how, backend=SamplerBackend(sampler, lm.name))
    return scored(evaluation, replace(context, asker=asker), [e.prompt for e in exchanges])


def sampled(
    ctx: StageContext[Any], name: str, lm: LanguageModel, prompts: Sequence[Prompt], n: int = 1
) -> list[list[Exchange]]:
    """n answers to each prompt: kept ones, where this very policy has answered these prompts so before."""
    config = ctx.config
    how = Sampling(
        n=n, max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=ctx.seed
    )
    answers = own_answers(ctx, name, lm, prompts, how, f"answers of {name}")
    return [
        [Exchange(prompt=p, response=r) for r in own]
        for p, own in zip(prompts, answers, strict=True)
    ]
