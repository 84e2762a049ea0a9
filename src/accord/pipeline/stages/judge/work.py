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
from accord.pipeline.stage import BASE, StageConfig, gives
from accord.pipeline.stages.ask import Answering
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.judge import JudgeStage
from accord.pipeline.work import Known, Read, Sample, Work, answered, fit, placeholder

__all__ = ["work"]

UNCOUNTED = "what the judge reads is not counted: it is no model of this recipe"
CHECKED = "what the judge reads of pairs that were there before is not counted"
TOKENS = 4096  # of a packed row of questions


def work(ctx: StageContext[JudgeStage], known: Known) -> Work:
    config = ctx.config
    judge = known.configs.get(config.judge)
    scorer = judge is not None and issubclass(gives(judge), RewardModel)
    local = (
        scorer or config.judge == BASE or (judge is not None and issubclass(gives(judge), Policy))
    )
    uses = [name for name in (config.policy, config.judge if local else None) if name]
    asking = _asks(config, known)
    if asking is None:
        return Work([], uses=uses, notes=[CHECKED if local else UNCOUNTED])
    lengths = known.written(ctx, str(asking.policy), asking.max_new_tokens)
    prompts, long = fit(known, held_out_prompts(ctx, config.data), asking, ctx.name)
    asked = asking.prompts + asking.held_out
    prompts = prompts[:asked]
    each = 1 / max(1, len(prompts))
    parts: list[Sample | Read] = []
    if config.policy:
        how = config.max_new_tokens, config.batch_size
        parts.append(Sample(prompts, config.n, lengths, *how, asked * each))
    notes = [*long] if local else [*long, UNCOUNTED]
    of_people = _asks(known.configs.get(config.against or config.data), known)
    if local and config.checked and of_people is None:
        notes.append(CHECKED)
    held = [(of_people, min(config.checked, of_people.held_out))] if of_people else []
    for source, n in [(asking, asked), *held] if local else []:
        answers = source.n + (source.beside or 0)
        if scorer:
            some = list(itertools.islice(itertools.cycle(lengths), 64))
            read = answered(known.lm, prompts, answers, some)
            parts.append(Read(read, 1024, n * each, scalar=True))
        else:
            trees = _questions(config, known, prompts, lengths, answers)
            sets = config.principles if config.constitution else 1
            parts.append(Read(trees, TOKENS, n * each * sets))
    return Work([*parts], uses=uses, notes=notes)


def _asks(config: StageConfig | None, known: Known) -> Answering | None:
    """The stage whose answers are asked about: this one, or one that it adds to."""
    while isinstance(config, Answering) and not config.policy:
        config = known.configs.get(config.data)
    return config if isinstance(config, Answering) else None


def _questions(
    config: JudgeStage, known: Known, prompts: Sequence[Prompt], lengths: Sequence[int], n: int
) -> list[Tree]:
    """What a judge that is a model reads of `n` answers to each prompt, each order a text of its own: what
    two orders share is read once, so this is the most it can be. Reasons and replies as texts come on top."""
    kind = check_template(config.asks.template).facts["kind"]
    size = {"compare": 2, "rank": n, "rate": 1}[kind]
    sets = math.comb(n, size) * max(1, len(config.axes))
    turns = size if config.asks.orders == "both" else 1
    trees = []
    for prompt in prompts:
        answers = tuple(Response(text=placeholder(lengths)) for _ in range(size))
        item = JudgedItem(prompt, answers, "overall", "a")
        text = ask_of(config.asks.template, item, range(size)).prompt
        trees += [Tree(tuple(render_prompt(known.lm.tokenizer, text)), ((1,),))] * (sets * turns)
    return trees
