"""What it takes: rewards of all answers; log-probs of later policies under themselves and the baseline."""

from __future__ import annotations

from typing import cast

from accord.pipeline.context import StageContext
from accord.pipeline.stage import StageConfig
from accord.pipeline.stages.compare import TOKENS, CompareStage
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.eval import EvalStage
from accord.pipeline.work import Known, Learn, Read, Sample, Work, answered, fit, together

__all__ = ["work"]


def _evaluated(config: CompareStage, configs: dict[str, StageConfig]) -> list[str]:
    """The policies a comparison is of."""
    return [n.partition("/")[2] for n in configs if n.startswith(f"{config.eval}/")]


def work(ctx: StageContext[CompareStage], known: Known) -> Work:
    """Rewards of all policies' answers; log-probs of later policies' under themselves and the baseline."""
    config = ctx.config
    names = _evaluated(config, known.configs)
    first = cast(EvalStage, known.configs[f"{config.eval}/{names[0]}"])
    prompts = fit(known, held_out_prompts(ctx, first.data), first, ctx.name)[0][: first.prompts]
    wrote = {name: known.written(ctx, name, first.max_new_tokens) for name in names}
    later = names[names.index(config.baseline) + 1 :] if config.baseline in names else names
    own = [answered(known.lm, prompts, 1, wrote[name]) for name in later]
    parts: list[Learn | Read | Sample] = [Read(trees, TOKENS) for trees in own]
    parts.append(Read(together(own), TOKENS))
    if config.reward:
        every = together([answered(known.lm, prompts, 1, wrote[name]) for name in names])
        parts.append(Read(every, 1024, scalar=True))
    reward = [config.reward] if config.reward else []
    return Work(
        [p for p in parts if isinstance(p, Read) and p.trees],
        uses=[*reward, config.baseline, *later],
    )
