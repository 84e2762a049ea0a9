"""Train a policy on rewards of its own answers to the training prompts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.artifact import Scorer
from accord.core.rundir import read_jsonl
from accord.core.types import Prompt
from accord.lm.model.load import load
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.pipeline.stage import StageConfig, gives
from accord.pipeline.stages.data import world_of
from accord.pipeline.stages.on_policy import OnPolicyStage
from accord.pipeline.stages.training import Training
from accord.pipeline.work import Answer, Known, Learn, Read, Work, answered, fit
from accord.rewards.compose import UNREAD
from accord.stats.intervals import mean
from accord.store import split_of
from accord.train.experience import sampler_notes
from accord.train.optimise import Optimise
from accord.train.policy import train_policy
from accord.train.rollout import Rollout
from accord.train.settings import BestOfN, OnlineDpo, Ppo

__all__ = ["read_prompts", "run", "work", "writes"]

GROWN = 0.5  # of the way to the limit, in equal factors: how long answers are while it trains


def run(ctx: StageContext[OnPolicyStage]) -> StageResult:
    """PPO, RLOO or GRPO on the training prompts of the data; held-out prompts are answered and scored."""
    config = ctx.config
    train, held = read_prompts(ctx, config)
    world = world_of(ctx, config.data)

    def measure(made: Rollout) -> dict[str, float]:
        """True scores of held-out answers, where the truth is known."""
        if not world:
            return {}
        known = [(world.by_prompt.get(e.prompt.id), e.response) for e in made.exchanges]
        rows = [world.gold(case, response) for case, response in known if case]
        names = [m.name for m in world.measures]
        return {name: sum(r[name] for r in rows) / len(rows) for name in names} if rows else {}

    warned: list[str] = []  # once, as soon as there is something to say

    def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
        shown = [f"{k} {row[k]:.3g}" for k in ("score", "kl", "length") if k in row]
        ctx.reporter.progress(done, total, "  ".join(shown))
        if config.sampler and not warned:
            warned.extend(sampler_notes([{"step": done, **row}]))
            for text in warned:
                ctx.reporter.note(text)

    trained = train_policy(
        load(ctx.policy(config.init)),
        train,
        config.rewards,
        run_dir=ctx.folder,
        tune=config.tune,
        settings=config.settings(),
        where=ctx.reward_model,
        held=held,
        sampler=config.sampler,
        reload=config.reload or "",
        evaluate=measure,
        seed=ctx.seed,
        trackers=ctx.trackers,
        on_step=on_step,
        tell=ctx.reporter.note,
    )
    log = read_jsonl(ctx.folder / "metrics.jsonl")
    samples = sorted((ctx.folder / "samples").glob("*.jsonl"))
    rewards = [r["reward"] for r in read_jsonl(samples[-1])] if samples else []
    metrics = {"reward": mean([x for x in rewards if x is not None])}
    headline = (
        f"reward {log[0]['score']:.3g} -> {log[-1]['score']:.3g} on its own answers, "
        f"KL {log[-1]['kl']:.3g} nats; held out {metrics['reward']}"
    )
    prompts = len(train) - sum(n for k, n in trained.left_out.items() if not k.startswith("held"))
    facts = {
        "init": config.init, "data": config.data, "prompts": prompts, "steps": len(log),
        "left_out": dict(trained.left_out),
    }  # fmt: skip
    return StageResult(metrics, list(trained.notes), facts, headline)


def read_prompts(
    ctx: StageContext[Any], config: OnPolicyStage
) -> tuple[list[Prompt], list[Prompt]]:
    """Training and held-out prompts, in an order fixed by their ids."""
    opened, facts = data_store(ctx.stages[config.data])
    parts: dict[str, list[Prompt]] = {"train": [], "test": []}
    with opened as store:
        for prompt in store.prompts():
            parts[split_of(prompt.id, facts["test"], facts["seed"])].append(prompt)
    train, held = (sorted(parts[name], key=lambda p: p.id) for name in ("train", "test"))
    return train[: config.limit], held[: config.eval_limit]


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
    kept = {OnlineDpo: 2, BestOfN: 1}.get(type(how), how.n)
    learnt = trees if kept == how.n else answered(known.lm, train, kept, lengths)
    cfg = Optimise(batch_size=how.minibatch, tokens=how.tokens)
    items = how.steps * step * how.epochs
    models = config.models()
    evaluations = math.ceil(how.steps / how.eval_every) if how.eval_every else 1
    valued = isinstance(how, Ppo)
    parts: list[Learn | Read | Answer] = [
        Answer(train, how.n, lengths, how.max_new_tokens, how.rollout_batch, rounds, config.tune),
        Answer(held, 1, lengths, how.max_new_tokens, how.rollout_batch, evaluations, config.tune),
        Read(trees, how.tokens, 2 * rounds),  # policy and reference
        Read(trees, how.tokens, rounds * (len(models) + valued), scalar=True),
        Read(
            answered(known.lm, held, 1, lengths),
            how.tokens,
            evaluations * len(models),
            scalar=True,
        ),
        Learn(learnt, items, cfg, config.tune),
    ]
    if valued:
        parts.append(Learn(learnt, items, cfg, config.tune, scalar=True))
    own = [m for m in models if not _on_base(config, known.configs, m)]
    separate = 1 + valued if config.tune == "full" else 0
    shared = [known.configs[m].tune for m in set(models) - set(own)]  # type: ignore[attr-defined]
    rank = 0 if config.tune == "full" else config.tune.r * valued
    judged = any(e.get("name") == "judged" for e in config.rewards)
    start = statistics.mean(known.written(ctx, config.init, how.max_new_tokens))
    read = {m: getattr(known.configs.get(m), "max_completion", how.max_new_tokens) for m in models}
    return Work(
        [p for p in parts if not isinstance(p, Read) or p.times],
        models=1 + separate + len(own),
        uses=[config.init, *own],
        adapters=rank + sum(tune.r for tune in shared),
        said=[
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
