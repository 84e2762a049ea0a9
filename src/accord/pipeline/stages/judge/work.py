"""What it takes: answers of a policy, and what the judge reads, where that is a model of this run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from accord.core.artifact import Policy, RewardModel
from accord.core.types import Prompt, Response
from accord.judges.templates import JudgedItem, ask_of, check_template
from accord.lm.chat import render_prompt
from accord.lm.trees.tree import Tree
from accord.pipeline.context import StageContext
from accord.pipeline.stage import BASE, gives
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.judge import JudgeStage
from accord.pipeline.work import Known, Read, Sample, Work, answered, fit, placeholder

__all__ = ["work"]

UNCOUNTED = "what the judge reads is not counted: it is no model of this recipe"
TOKENS = 4096  # of a packed row of questions


def work(ctx: StageContext[JudgeStage], known: Known) -> Work:
    config = ctx.config
    judge = known.configs.get(config.judge)
    scorer = judge is not None and issubclass(gives(judge), RewardModel)
    local = (
        scorer or config.judge == BASE or (judge is not None and issubclass(gives(judge), Policy))
    )
    own = [config.judge] if local else []
    if config.policy is None:
        return Work([], uses=own, notes=[UNCOUNTED])
    lengths = known.written(ctx, config.policy, config.max_new_tokens)
    asked = config.prompts + config.held_out
    prompts, long = fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[:asked]
    times = asked / max(1, len(prompts))
    parts: list[Sample | Read] = [
        Sample(prompts, config.n, lengths, config.max_new_tokens, config.batch_size, times)
    ]
    if scorer:
        some = list(itertools.islice(itertools.cycle(lengths), 64))
        parts.append(Read(answered(known.lm, prompts, config.n, some), 1024, times, scalar=True))
    elif local:
        sets = times * config.principles if config.constitution else times
        parts.append(Read(_questions(config, known, prompts, lengths), TOKENS, sets))
    notes = [] if local else [UNCOUNTED]
    return Work([*parts], uses=[config.policy, *own], notes=[*long, *notes])


def _questions(
    config: JudgeStage, known: Known, prompts: Sequence[Prompt], lengths: Sequence[int]
) -> list[Tree]:
    """What a judge that is a model reads of fresh answers, each order a text of its own: what two orders
    share is read once, so this is the most it can be. Reasons and replies as texts come on top."""
    kind = check_template(config.asks.template).facts["kind"]
    size = {"compare": 2, "rank": config.n, "rate": 1}[kind]
    sets = math.comb(config.n, size) * max(1, len(config.axes))
    turns = size if config.asks.orders == "both" else 1
    trees = []
    for prompt in prompts:
        answers = tuple(Response(text=placeholder(lengths)) for _ in range(size))
        item = JudgedItem(prompt, answers, "overall", "a")
        text = ask_of(config.asks.template, item, range(size)).prompt
        trees += [Tree(tuple(render_prompt(known.lm.tokenizer, text)), ((1,),))] * (sets * turns)
    return trees
