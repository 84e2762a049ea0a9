"""What a judge is asked: a policy's fresh answers, or what the data asks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from accord.constitution.principles import Constitution, place_of, read_constitution
from accord.core.rundir import read_jsonl, write_jsonl
from accord.core.types import Prompt, Question, Response
from accord.judges.principles import by_principle
from accord.judges.run import items_of, question_of
from accord.judges.templates import JudgedItem, check_template
from accord.pipeline.context import StageContext
from accord.pipeline.stages.ask.fresh import fresh_answers
from accord.pipeline.stages.judge import JudgeStage
from accord.store import Snapshot, Store

__all__ = ["AskedItems", "answers_of", "constitution_of", "questions"]

AskedItems = dict[Question, JudgedItem]
ANSWERS = "answers.jsonl"
SEED = 17  # of the draw of principles: the same comparison is asked by the same ones


def answers_of(
    ctx: StageContext[JudgeStage], store: Store, facts: Mapping[str, object]
) -> tuple[list[tuple[Prompt, list[Response]]], list[str]]:
    """The policy's fresh answers, and what is said of prompts that it can't answer. Sampled once: a run that
    was killed asks the judge about the same ones."""
    file = ctx.folder / ANSWERS
    if not file.exists():
        fresh = fresh_answers(ctx, store, facts)
        answered = [
            {"prompt": p.id, "responses": [r.model_dump(mode="json") for r in rs]} for p, rs in fresh.answers
        ]  # fmt: skip
        write_jsonl(file, [{"notes": fresh.notes}, *answered])
    first, *rows = read_jsonl(file)
    prompts = {p.id: p for p in store.prompts()}
    answers = [
        (prompts[r["prompt"]], [Response.model_validate(x) for x in r["responses"]]) for r in rows
    ]
    return answers, first["notes"]


def constitution_of(ctx: StageContext[JudgeStage]) -> Constitution | None:
    """The principles that ask, if any do."""
    config = ctx.config
    if config.constitution is None:
        return None
    where = place_of(config.constitution, ctx.recipe_folder)
    return read_constitution(where).but(config.without)


def questions(
    config: JudgeStage,
    snapshot: Snapshot,
    fresh: Sequence[tuple[Prompt, Sequence[Response]]],
    constitution: Constitution | None = None,
    references: Mapping[str, str] | None = None,
) -> AskedItems:
    """What the template asks: of each prompt's fresh answers every pair, all together or each on every axis;
    without any, what the snapshot asks; of a constitution, each by principles drawn for it."""
    items = _questions(config, snapshot, fresh, references or {})
    return by_principle(items, constitution, config.principles, SEED) if constitution else items


def _questions(
    config: JudgeStage,
    snapshot: Snapshot,
    fresh: Sequence[tuple[Prompt, Sequence[Response]]],
    references: Mapping[str, str],
) -> AskedItems:
    template = config.asks.template
    if config.policy is None:
        return items_of(snapshot, template, config.axes, references)
    kind = check_template(template).facts["kind"]
    items: AskedItems = {}
    for prompt, answers in fresh:
        sets: list[tuple[Response, ...]]
        if kind == "rank":
            sets = [tuple(answers)]
        else:
            sets = list(itertools.combinations(answers, 2 if kind == "compare" else 1))
        for some in sets:
            for axis in config.axes or ([""] if kind != "rate" else ["overall"]):
                ids = tuple(r.id_for(prompt) for r in some)
                items[question_of(prompt.id, ids, kind, template, axis)] = JudgedItem(
                    prompt, some, axis, references.get(prompt.id, "")
                )
    return items
