"""Train a policy on rewards of its own answers to the training prompts."""

from __future__ import annotations

from collections.abc import Mapping

from accord.core.rundir import read_jsonl
from accord.lm.model.load import load
from accord.pipeline.answers import true_figures
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.readers import orders_of, strangers
from accord.pipeline.stages.data import world_of
from accord.pipeline.stages.on_policy import OnPolicyStage, watching
from accord.pipeline.stages.on_policy.prompts import read_prompts
from accord.stats.intervals import mean
from accord.train.online.experience import sampler_notes
from accord.train.online.policy import train_policy
from accord.train.online.rollout import Rollout

__all__ = ["run"]


def run(ctx: StageContext[OnPolicyStage]) -> StageResult:
    """PPO, RLOO or GRPO on the training prompts of the data; held-out prompts are answered and scored."""
    config = ctx.config
    train, held = read_prompts(ctx, config)
    world = world_of(ctx, config.data)

    def measure(rollout: Rollout) -> dict[str, float]:
        """True scores of held-out answers, where the truth is known."""
        return true_figures(world, rollout.exchanges) if world else {}

    warned: list[str] = []  # once, as soon as there is something to say

    def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
        shown = [f"{k} {row[k]:.3g}" for k in ("score", "kl", "length") if k in row]
        ctx.reporter.progress(done, total, "  ".join(shown))
        if config.sampler and not warned:
            warned.extend(sampler_notes([{"step": done, **row}]))
            for text in warned:
                ctx.reporter.note(text)

    read, unread = strangers(config.init, config.models(paid=True), ctx.stages)
    for text in unread:
        ctx.reporter.note(text)
    guard = None
    if config.guard:
        steps = config.settings().steps
        orders = {}
        if check := config.guard.rm_check:
            place = f"stage {ctx.name}, guard.rm_check"
            orders = orders_of(config.init, config.models(paid=True), ctx.stages[check], place)
        guard = watching.DetectorGuard(config.guard, steps, ctx.folder, ctx.name, orders)
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
        guard=guard,
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
        "left_out": dict(trained.left_out), "read": read,
    }  # fmt: skip
    notes = [*unread, *trained.notes]
    if (ctx.folder / watching.STUDY).exists():
        notes.append(watching.asks_for(ctx.folder))
    return StageResult(metrics, notes, facts, headline)
