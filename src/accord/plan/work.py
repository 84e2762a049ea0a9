"""What a stage of a recipe will do, as work that can be counted before it is done.

Texts are real: data stages are made (they take seconds), rendered and counted. What a policy will write
is not known, only what it was taught (`plan.written`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from accord.core.types import Group, Prompt
from accord.lm.room import check_some, fitting, said
from accord.lm.tree import Tree
from accord.losses import choose_loss
from accord.pipeline.context import StageContext
from accord.pipeline.eval_stages import TOKENS, held_out_prompts
from accord.pipeline.kinds import (
    Ask,
    Compare,
    Eval,
    PreferenceStage,
    Process,
    Reward,
    RewardAxes,
    RlhfStage,
    RmCheck,
    Sft,
    StageConfig,
    Sweep,
    Training,
)
from accord.pipeline.model_stages import (
    read_axes,
    read_demonstrations,
    read_groups,
    read_judged,
    read_steps,
    snapshot_demonstrations,
)
from accord.pipeline.rlhf_stage import read_prompts
from accord.plan.written import Known, answered, limits_of, together
from accord.rewards.base import named_models
from accord.rewards.compose import UNREAD
from accord.train.axes import merged
from accord.train.data import demonstration_trees, group_by_prompt, group_trees
from accord.train.optimise import Optimise, total_steps
from accord.train.preference import Material
from accord.train.process import step_trees
from accord.train.settings import BestOfN, OnlineDpo, OnPolicy, Ppo
from accord.train.trainee import Tune

__all__ = ["Answer", "Learn", "Read", "Work", "work_of"]


@dataclass(frozen=True)
class Learn:
    """Forward and backward over `items` of the trees, batch by batch."""

    trees: Sequence[Tree]
    items: float
    cfg: Optimise
    tune: Tune
    scalar: bool = False  # a head of one number instead of the vocabulary's


@dataclass(frozen=True)
class Read:
    """The forward pass alone, `times` over all trees."""

    trees: Sequence[Tree]
    tokens: int
    times: float = 1.0
    scalar: bool = False


@dataclass(frozen=True)
class Answer:
    """Sampling: `n` answers to each prompt, as long as `lengths` (tokens; any number of them, all equally
    likely) and at most `most`, `times` over, by a model that trains an adapter as `tune` says: its products
    come on top."""

    prompts: Sequence[Prompt]
    n: int
    lengths: Sequence[int]
    most: int
    batch: int
    times: float = 1.0
    tune: Tune | None = None


@dataclass
class Work:
    """All of a stage. `models`: whole models held at once; `adapters`: ranks of further adapters on the base;
    `merged`: layers whose weights an earlier stage's adapter was merged into: on a CPU those are copies,
    beside the file that the base is mapped from. `loads`: how often a model is loaded; `stacked`: the layers
    of each adapter that is then merged."""

    parts: list[Learn | Read | Answer] = field(default_factory=list)
    models: int = 1
    adapters: int = 0
    merged: int = 0
    loads: int = 0
    stacked: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def work_of(ctx: StageContext, known: Known) -> Work:
    """The work of a stage that uses a model; data stages are done."""
    configs = known.configs
    count = next(count for kind, count in COUNTS.items() if isinstance(ctx.config, kind))
    work = count(ctx, known)
    names = _used(ctx.config, configs)
    behind = [_behind(name, configs) for name in names]
    work.merged = max((max(layers, default=0) for layers in behind), default=0)
    work.stacked = [n for layers in behind for n in layers]
    work.loads = len(names)
    return work


def _used(config: StageConfig, configs: dict[str, StageConfig]) -> list[str]:
    """The models a stage loads."""
    if isinstance(config, Compare):
        names = _evaluated(config, configs)
        later = names[names.index(config.baseline) + 1 :] if config.baseline in names else names
        return [*([config.reward] if config.reward else []), config.baseline, *later]
    if isinstance(config, Eval):
        return list(config.policies)
    if isinstance(config, RmCheck):
        return list(config.models)
    if isinstance(config, RlhfStage):
        return [config.init, *_own_models(config, configs)]
    return [str(getattr(config, key)) for key in ("init", "policy") if hasattr(config, key)]


EVERY = 10**6  # layers


def _behind(name: str, configs: dict[str, StageConfig]) -> list[int]:
    """Of the adapters that are merged into a policy, the layers that each changes."""
    config = configs.get(name)
    if config is None or not hasattr(config, "tune"):
        return []
    if config.tune == "full":
        return []
    return [*_behind(config.init, configs), config.tune.last_layers or EVERY]  # type: ignore[attr-defined]


def _learnt(config: Training, trees: Sequence[Tree], *, scalar: bool = False) -> Learn:
    cfg = Optimise(**config.optimise_keys())
    items = min(total_steps(len(trees), cfg) * cfg.batch_size, len(trees) * config.epochs)
    return Learn(trees, items, cfg, config.tune, scalar)


def _read(config: Training, trees: Sequence[Tree], times: float = 1.0, *, scalar: bool) -> Read:
    tokens = 1024 if config.tokens == "auto" else config.tokens
    return Read(trees, tokens, times, scalar)


def _evaluations(config: Training, n: int) -> int:
    """How often the held-out items are measured on."""
    steps = total_steps(n, Optimise(**config.optimise_keys()))
    return math.ceil(steps / config.eval_every) if config.eval_every else 1


def _sft(ctx: StageContext, known: Known) -> Work:
    config = ctx.config
    assert isinstance(config, Sft)
    train, held = (
        demonstration_trees(known.lm.tokenizer, part, limits_of(config), all_turns=config.all_turns)
        for part in read_demonstrations(ctx, config)
    )
    learn = _learnt(config, train.for_training().trees)
    times = _evaluations(config, len(train.trees))
    return Work([learn, _read(config, held.trees, times, scalar=False)])


def _reward(ctx: StageContext, known: Known) -> Work:
    config = ctx.config
    assert isinstance(config, Reward | RewardAxes)
    if isinstance(config, RewardAxes):
        sides: Sequence[Sequence[Group]] = [merged(side)[0] for side in read_axes(ctx, config)]
    else:
        sides = read_groups(ctx, config)[:2]
    train, held = (
        group_trees(known.lm.tokenizer, group_by_prompt(part), limits_of(config)) for part in sides
    )
    learn = _learnt(config, train.for_training().trees, scalar=True)
    times = _evaluations(config, len(train.trees))
    parts: list[Learn | Read | Answer] = [learn, _read(config, held.trees, times, scalar=True)]
    if isinstance(config, Reward):  # centred on the demonstrations, or on what it learnt from
        shown = snapshot_demonstrations(ctx, config)[0]
        shown_trees = demonstration_trees(
            known.lm.tokenizer, shown, limits_of(config), all_turns=False
        ).trees
        centre = shown_trees or train.trees
        parts.append(_read(config, centre, scalar=True))
    return Work(parts)


def _process(ctx: StageContext, known: Known) -> Work:
    config = ctx.config
    assert isinstance(config, Process)
    train, held = (
        step_trees(known.lm, part, limits_of(config)) for part in read_steps(ctx, config)[:2]
    )
    learn = _learnt(config, train.for_training().trees, scalar=True)
    return Work([learn, _read(config, held.trees, scalar=True)])


def _preference(ctx: StageContext, known: Known) -> Work:
    """A reference is read once; held-out answers are measured at the end."""
    config = ctx.config
    assert isinstance(config, PreferenceStage)
    points = [config.at(p) for p in config.points()] if isinstance(config, Sweep) else [config]
    train, held, _ = read_judged(ctx, points[0], [point.loss for point in points])
    material = Material(known.lm, train, held, limits_of(config), config.average, config.share)
    work, read = Work(), False
    for point in points:
        chosen = choose_loss(point.loss)
        data, other = material.trees(chosen)
        if chosen.facts["needs_reference"] and not read:
            work.parts.append(_read(point, [*data.trees, *other.trees], scalar=False))
            read = True
        times = _evaluations(point, len(data.trees)) + (not chosen.facts["needs_reference"])
        work.parts += [
            _learnt(point, data.trees), _read(point, other.trees, times, scalar=False)
        ]  # fmt: skip
    return work


def _rlhf(ctx: StageContext, known: Known) -> Work:
    config = ctx.config
    assert isinstance(config, RlhfStage)
    how, (train, held) = config.settings(), read_prompts(ctx, config)
    (train, long), (held, _) = (_fit(known, side, how, ctx.name) for side in (train, held))
    lengths = known.while_trained(ctx, config)
    step = min(how.batch_size, len(train))
    trees = answered(known.lm, train, how.n, lengths)
    rounds = how.steps * step / max(1, len(train))  # times over all prompts
    kept = {OnlineDpo: 2, BestOfN: 1}.get(type(how), how.n)
    learnt = trees if kept == how.n else answered(known.lm, train, kept, lengths)
    cfg = Optimise(batch_size=how.minibatch, tokens=how.tokens)
    items = how.steps * step * how.epochs
    models = _models(config)
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
    own = _own_models(config, known.configs)
    separate = 1 + valued if config.tune == "full" else 0
    shared = [known.configs[m].tune for m in set(models) - set(own)]  # type: ignore[attr-defined]
    rank = 0 if config.tune == "full" else config.tune.r * valued
    judged = any(e.get("name") == "judged" for e in config.rewards)
    start = statistics.mean(known.written(ctx, config.init, how.max_new_tokens))
    read = {m: getattr(known.configs.get(m), "max_completion", how.max_new_tokens) for m in models}
    return Work(
        [p for p in parts if not isinstance(p, Read) or p.times],
        models=1 + separate + len(own),
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


def _fit(
    known: Known, prompts: Sequence[Prompt], how: OnPolicy | Ask | Eval, stage: str
) -> tuple[list[Prompt], list[str]]:
    """The prompts that a stage will answer, and what is said of those that are too long for it."""
    kept, left_out = fitting(known.lm, prompts, how.max_new_tokens, how.max_prompt)
    check_some(kept, left_out, f"stage {stage}")
    return kept, said(left_out)


def _own_models(config: RlhfStage, configs: dict[str, StageConfig]) -> list[str]:
    """Reward models that can't share the policy's base."""
    return [m for m in _models(config) if not _on_base(config, configs, m)]


def _models(config: RlhfStage) -> list[str]:
    """The reward models asked, each once: what one says of a batch is kept for the next reward."""
    return list(dict.fromkeys(n for entry in config.rewards for n in named_models(entry)))


def _on_base(config: RlhfStage, configs: dict[str, StageConfig], model: str) -> bool:
    """Whether a reward model is an adapter on the policy's own starting weights."""
    other = configs.get(model)
    return (
        isinstance(other, Reward | Process | RewardAxes)
        and other.init == config.init
        and other.tune != "full"
        and config.tune != "full"
    )


def _eval(ctx: StageContext, known: Known) -> Work:
    config = ctx.config
    assert isinstance(config, Eval)
    prompts, long = _fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[: config.prompts]
    lengths = known.written(ctx, config.policies[0], config.max_new_tokens)
    answer = Answer(prompts, 1, lengths, config.max_new_tokens, config.batch_size)
    return Work([answer], said=long)


def _evaluated(config: Compare, configs: dict[str, StageConfig]) -> list[str]:
    """The policies a comparison is of."""
    return [n.partition("/")[2] for n in configs if n.startswith(f"{config.eval}/")]


def _compare(ctx: StageContext, known: Known) -> Work:
    """Rewards of all policies' answers; log-probs of later policies' under themselves and the baseline."""
    config = ctx.config
    assert isinstance(config, Compare)
    names = _evaluated(config, known.configs)
    first = known.configs[f"{config.eval}/{names[0]}"]
    assert isinstance(first, Eval)
    prompts = _fit(known, held_out_prompts(ctx, first.data), first, ctx.name)[0][: first.prompts]
    wrote = {name: known.written(ctx, name, first.max_new_tokens) for name in names}
    later = names[names.index(config.baseline) + 1 :] if config.baseline in names else names
    own = [answered(known.lm, prompts, 1, wrote[name]) for name in later]
    parts: list[Learn | Read | Answer] = [Read(trees, TOKENS) for trees in own]
    parts.append(Read(together(own), TOKENS))
    if config.reward:
        every = together([answered(known.lm, prompts, 1, wrote[name]) for name in names])
        parts.append(Read(every, 1024, scalar=True))
    return Work([p for p in parts if isinstance(p, Read) and p.trees])


def _ask(ctx: StageContext, known: Known) -> Work:
    config = ctx.config
    assert isinstance(config, Ask)
    lengths = known.written(ctx, config.policy, config.max_new_tokens)
    asked = config.prompts + config.held_out
    prompts, long = _fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[:asked]
    times = asked / max(1, len(prompts))
    answer = Answer(prompts, config.n, lengths, config.max_new_tokens, config.batch_size, times)
    return Work([answer], said=long)


def _rm_check(ctx: StageContext, known: Known) -> Work:
    config = ctx.config
    assert isinstance(config, RmCheck)
    asked = known.configs[config.data]
    assert isinstance(asked, Ask)
    lengths = known.written(ctx, asked.policy, asked.max_new_tokens)
    prompts = _fit(known, held_out_prompts(ctx, config.data), asked, ctx.name)[0][: asked.held_out]
    trees = answered(known.lm, prompts, asked.n, lengths)
    return Work([Read(trees, 1024, len(config.models), scalar=True)])


COUNTS: dict[Any, Callable[[StageContext, Known], Work]] = {
    Sft: _sft,
    Reward: _reward,
    RewardAxes: _reward,
    Process: _process,
    PreferenceStage: _preference,
    RlhfStage: _rlhf,
    Eval: _eval,
    Compare: _compare,
    Ask: _ask,
    RmCheck: _rm_check,
}
