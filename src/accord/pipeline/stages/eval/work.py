"""What it takes: an answer to each held-out prompt."""

from __future__ import annotations

from accord.pipeline.context import StageContext
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.eval import EvalStage
from accord.pipeline.work import Known, Sample, Work, fit

__all__ = ["work"]


def work(ctx: StageContext[EvalStage], known: Known) -> Work:
    config = ctx.config
    prompts, long = fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[: config.prompts]
    lengths = known.written(ctx, config.policies[0], config.max_new_tokens)
    answer = Sample(prompts, 1, lengths, config.max_new_tokens, config.batch_size)
    return Work([answer], uses=list(config.policies), notes=long)
