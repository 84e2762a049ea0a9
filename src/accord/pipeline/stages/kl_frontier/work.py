"""What it takes: answers of all, their rewards, and their log-probs under policy and reference."""

from __future__ import annotations

from accord.pipeline.context import StageContext
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.kl_frontier import KlFrontierStage
from accord.pipeline.stages.kl_frontier.moved import TOKENS
from accord.pipeline.work import Known, Learn, Read, Sample, Work, answered, fit, together

__all__ = ["work"]


def work(ctx: StageContext[KlFrontierStage], known: Known) -> Work:
    config, names = ctx.config, ctx.config.sampled
    prompts, long = fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[: config.prompts]
    wrote = [known.written(ctx, name, config.max_new_tokens) for name in names]
    own = [answered(known.lm, prompts, config.n, lengths) for lengths in wrote]
    parts: list[Learn | Read | Sample] = [
        Sample(prompts, config.n, lengths, config.max_new_tokens, config.batch_size)
        for lengths in wrote
    ]
    parts += [Read(trees, TOKENS, 2) for trees in own[1:]]  # under the policy and the reference
    parts.append(Read(together(own), 1024, scalar=True))
    return Work(parts, models=2, uses=[config.reward, *names], notes=long)
