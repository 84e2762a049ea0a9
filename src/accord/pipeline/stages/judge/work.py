"""What it takes: answers of a policy, and what the judge reads, where that is a model of this run."""

from __future__ import annotations

import itertools

from accord.core.artifact import RewardModel
from accord.pipeline.context import StageContext
from accord.pipeline.stage import gives
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.judge import JudgeStage
from accord.pipeline.work import Known, Read, Sample, Work, answered, fit

__all__ = ["work"]

UNCOUNTED = "what the judge reads is not counted: it is no reward model of this recipe"


def work(ctx: StageContext[JudgeStage], known: Known) -> Work:
    config = ctx.config
    judge = known.configs.get(config.judge)
    scorer = judge is not None and issubclass(gives(judge), RewardModel)
    notes = [] if scorer else [UNCOUNTED]
    if config.policy is None:
        return Work([], uses=[config.judge] if scorer else [], notes=[UNCOUNTED])
    lengths = known.written(ctx, config.policy, config.max_new_tokens)
    asked = config.prompts + config.held_out
    prompts, long = fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[:asked]
    times = asked / max(1, len(prompts))
    parts: list[Sample | Read] = [
        Sample(prompts, config.n, lengths, config.max_new_tokens, config.batch_size, times)
    ]
    if scorer:
        trees = answered(
            known.lm, prompts, config.n, list(itertools.islice(itertools.cycle(lengths), 64))
        )
        parts.append(Read(trees, 1024, times, scalar=True))
    return Work([*parts], uses=[config.policy], notes=[*long, *notes])
