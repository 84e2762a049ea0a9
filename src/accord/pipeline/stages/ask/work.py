"""What it takes: answers to as many prompts as are asked about."""

from __future__ import annotations

from accord.pipeline.context import StageContext
from accord.pipeline.stages.ask import AskStage
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.work import Known, Sample, Work, fit

__all__ = ["work"]


def work(ctx: StageContext[AskStage], known: Known) -> Work:
    config = ctx.config
    lengths = known.written(ctx, config.policy, config.max_new_tokens)
    asked = config.prompts + config.held_out
    prompts, long = fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[:asked]
    times = asked / max(1, len(prompts))
    answer = Sample(prompts, config.n, lengths, config.max_new_tokens, config.batch_size, times)
    return Work([answer], notes=long)
