"""Fresh answers of a policy to some of a study's prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from accord.core.errors import DataError
from accord.core.seeds import derive_seed, rng
from accord.core.types import Prompt, Response
from accord.lm.model.load import load
from accord.lm.room import check_some, fitting, left_out_notes
from accord.lm.sampler import Sampling
from accord.pipeline.context import StageContext
from accord.pipeline.own_answers import own_answers
from accord.pipeline.stages.ask import Answering
from accord.pipeline.stages.ask.people import AnsweredPrompt
from accord.pipeline.stages.data import prompts_of
from accord.store import Store, split_of

__all__ = ["Fresh", "fresh_answers"]


class Fresh(NamedTuple):
    """Answers by prompt, the ids of the fresh among them, and the prompts that are too long to be answered:
    how many, and that in words."""

    answers: list[AnsweredPrompt]
    ids: list[str]
    left_out: dict[str, int]
    notes: list[str]


def fresh_answers(ctx: StageContext[Any], store: Store, facts: Mapping[str, Any]) -> Fresh:
    """Up to n distinct answers to each chosen prompt, and `beside` earlier ones of other words; a prompt with
    fewer than two asks nothing. And how many prompts are too long to be answered."""
    config = ctx.config
    lm = load(ctx.policy(config.policy))
    tagged = _tagged(config, prompts_of(ctx.stages[config.data], store.prompts()))
    kept, left_out = fitting(lm, tagged, config.max_new_tokens, config.max_prompt)
    check_some(kept, left_out, f"stage {ctx.name}")
    notes = left_out_notes(left_out)
    for text in notes:
        ctx.reporter.note(text)
    sides: dict[str, list[Prompt]] = {"train": [], "test": []}
    for prompt in sorted(kept, key=lambda p: p.id):
        sides[split_of(prompt.id, facts["test"], facts["seed"])].append(prompt)
    draw = rng(ctx.seed, ctx.name, "prompts")
    chosen = [
        p for side, most in (("train", config.prompts), ("test", config.held_out))
        for p in draw.sample(sides[side], min(most, len(sides[side])))
    ]  # fmt: skip
    how = Sampling(
        n=config.n, temperature=config.temperature, max_new_tokens=config.max_new_tokens,
        seed=derive_seed(ctx.seed, ctx.name),
    )  # fmt: skip
    done = own_answers(ctx, config.policy, lm, chosen, how, "fresh answers")
    distinct = [list({r.text: r for r in rs if r.text.strip()}.values()) for rs in done]
    known = _earlier(store) if config.beside else {}
    answers: list[AnsweredPrompt] = []
    for prompt, fresh in zip(chosen, distinct, strict=True):
        texts = {r.text for r in fresh}
        others = [r for r in known.get(prompt.id, ()) if r.text not in texts]
        answers.append((prompt, fresh + draw.sample(others, min(config.beside or 0, len(others)))))
    answers = [(p, rs) for p, rs in answers if len(rs) > 1]
    asked = {p.id for p, _ in answers}
    ids = {r.id_for(p) for p, rs in zip(chosen, distinct, strict=True) if p.id in asked for r in rs}
    return Fresh(answers, sorted(ids), dict(left_out), notes)


def _tagged(config: Answering, every: list[Prompt]) -> list[Prompt]:
    """The prompts with the values asked for. DataError where there is none, with the values there are."""
    asked = config.tagged or {}
    kept = [p for p in every if all(p.tags.get(tag) in asked[tag] for tag in asked)]
    if every and not kept:
        known = {tag: sorted({p.tags[tag] for p in every if tag in p.tags}) for tag in asked}
        allowed = "; ".join(
            f"{tag}: {', '.join(v[:12]) or 'no prompt has it'}" for tag, v in known.items()
        )
        raise DataError(f"no prompt has {asked}", where="tagged", allowed=allowed)
    return kept


def _earlier(store: Store) -> dict[str, list[Response]]:
    """The answers in the store by prompt id, in an order fixed by their ids."""
    known: dict[str, list[Response]] = defaultdict(list)
    for prompt, response in store.responses():
        known[prompt].append(response)
    return known
