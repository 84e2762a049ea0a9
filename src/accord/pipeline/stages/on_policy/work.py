"""What a run on own answers will do, before it does: how long answers will be is the guess in it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from accord.core.artifact import Scorer
from accord.pipeline.context import StageContext
from accord.pipeline.stage import StageConfig, gives
from accord.pipeline.stages.on_policy import OnPolicyStage
from accord.pipeline.stages.on_policy.prompts import read_prompts
from accord.pipeline.stages.training import Training
from accord.pipeline.work import Known, Learn, Read, Sample, Work, answered, fit
from accord.rewards.compose import UNREAD
from accord.train.settings import Optimise

__all__ = ["whole_models", "work", "writes"]

GROWN = 0.5  # of the way to the limit, in equal factors: how long answers are while it trains


def writes(ctx: StageContext[Any], known: Known, policy: str, most: int) -> Sequence[int]:
    """Answers as long as while it trained."""
    return [min(n, most) for n in _while_trained(ctx, known, known.configs[policy])]


def _while_trained(ctx: StageContext[Any], known: Known, config: Any) -> Sequence[int]:
    """On the way from where it starts to the limit. Most grow, for many rewards pay for length; how far is
    not known before."""
    most = config.settings().max_new_tokens
    start = known.written(ctx, config.init, most)
    return [max(1, round(n * (most / n) ** GROWN)) for n in start]


def work(ctx: StageContext[OnPolicyStage], known: Known) -> Work:
    config = ctx.config
    how, (train, held) = config.settings(), read_prompts(ctx, config)
    (train, long), (held, _) = (fit(known, side, how, ctx.name) for side in (train, held))
    lengths = _while_trained(ctx, known, config)
    step = min(how.batch_size, len(train))
    trees = answered(known.lm, train, how.n, lengths)
    rounds = how.steps * step / max(1, len(train))  # times over all prompts
    kept = how.learns_from or how.n
    learnt = trees if kept == how.n else answered(known.lm, train, kept, lengths)
    cfg = Optimise(batch_size=how.minibatch, tokens=how.tokens)
    items = how.steps * step * how.epochs
    models, valuer = config.models(), how.valued and not how.value_shares()
    evaluations = math.ceil(how.steps / how.eval_every) if how.eval_every else 1
    parts: list[Learn | Read | Sample] = [
        Sample(train, how.n, lengths, how.max_new_tokens, how.rollout_batch, rounds, config.tune),
        Sample(held, 1, lengths, how.max_new_tokens, how.rollout_batch, evaluations, config.tune),
        Read(trees, how.tokens, 2 * rounds),  # policy and reference
        Read(trees, how.tokens, rounds * (len(models) + valuer), scalar=True),
        Read(
            answered(known.lm, held, 1, lengths),
            how.tokens,
            evaluations * len(models),
            scalar=True,
        ),
        Learn(learnt, items, cfg, config.tune),
    ]
    if valuer:
        parts.append(Learn(learnt, items, cfg, config.tune, scalar=True))
    own = _of_their_own(config, known.configs)
    behind = [known.configs[m] for m in set(models) - set(own)]
    tunes = [other.tune for other in behind if isinstance(other, Training)]
    rank = 0 if config.tune == "full" else config.tune.r * valuer
    judged = any(e.get("name") == "judged" for e in config.rewards)
    start = statistics.mean(known.written(ctx, config.init, how.max_new_tokens))
    read = {m: getattr(known.configs.get(m), "max_completion", how.max_new_tokens) for m in models}
    return Work(
        [p for p in parts if not isinstance(p, Read) or p.times],
        models=whole_models(config, known.configs),
        uses=[config.init, *own],
        adapters=rank + sum(tune.r for tune in tunes if tune != "full"),
        notes=[
            *long,
            *(
                UNREAD.format(label=m, n=n, most=how.max_new_tokens)
                for m, n in read.items()
                if n < how.max_new_tokens
            ),
            f"answers are taken to be {statistics.mean(lengths):.0f} tokens long while it trains: from "
            f"{start:.0f} at the start towards {how.max_new_tokens}",
            *(["answers of a judge are not counted"] if judged else []),
            *(
                f"{name} is counted as if it had the recipe's architecture"
                for name in config.folders()
            ),
        ],
    )


def whole_models(config: OnPolicyStage, configs: dict[str, StageConfig]) -> int:
    """Models held at once that are no adapters on the policy's base: with a full tuning the reference and a
    value model too, and reward models on other weights."""
    how = config.settings()
    separate = 1 + (how.valued and not how.value_shares()) if config.tune == "full" else 0
    return 1 + separate + len(_of_their_own(config, configs))


def _of_their_own(config: OnPolicyStage, configs: dict[str, StageConfig]) -> list[str]:
    return [m for m in config.models() if not _on_base(config, configs, m)]


def _on_base(config: OnPolicyStage, configs: dict[str, StageConfig], model: str) -> bool:
    """Whether a reward model is an adapter on the policy's own starting weights."""
    other = configs.get(model)
    return (
        isinstance(other, Training)
        and issubclass(gives(other), Scorer)
        and other.init == config.init
        and other.tune != "full"
        and config.tune != "full"
    )
