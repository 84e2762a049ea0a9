"""Sample a policy, have the answers judged, freeze a snapshot of all rounds so far."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from accord.core.errors import ConfigError
from accord.core.rundir import write_json
from accord.core.seeds import rng
from accord.core.types import Judgment, Prompt, Question, Response
from accord.feedback.simulated import compare
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.ask import AskStage
from accord.pipeline.stages.ask.fresh import fresh_answers
from accord.pipeline.stages.ask.people import AnsweredPrompt, from_people, write_study
from accord.pipeline.stages.data import (
    START,
    Clock,
    copied,
    finish,
    keep_world,
    world_of,
)
from accord.worlds.base import World, truth

__all__ = ["run"]


def run(ctx: StageContext[AskStage]) -> StageResult:
    """Sample, ask, and freeze a snapshot of all rounds so far, in a copy of the parent's store: a file here,
    also where the parent's is a database."""
    config = ctx.config
    world = world_of(ctx, config.data)
    opened, facts = copied(ctx, config.data)
    with opened as store:
        earlier = store.snapshot(facts["snapshot"])
        weights = earlier.selection.weights
        answered = fresh_answers(ctx, store, facts)
        fresh = answered.answers
        questions = [q for prompt, answers in fresh for q in _questions(prompt, answers)]
        for prompt, answers in fresh:
            store.add_responses(prompt, answers)
        if config.raters:
            if world is None:
                raise ConfigError(
                    "simulated raters need a world whose truth is known", where=f"stage {ctx.name}",
                    mend="leave raters out: the questions then wait for people",
                )  # fmt: skip
            store.add_raters([r.rater() for r in config.raters])
            shown, judgments = _simulated(ctx, config, world, fresh, earlier.judgments)
            store.add_questions(shown)
            store.add_judgments(judgments)
        else:
            write_study(ctx, config, fresh)
            judgments, more = from_people(ctx, config, store, questions)
            weights = {**weights, **more}
        old = {j.id for j in earlier.judgments}
        new = {j.id for j in judgments} - old
        snapshot = store.freeze(ctx.name, only=old | new, weights=weights)
        if world:
            keep_world(ctx, world, facts["test"])
        result = finish(ctx, snapshot, facts["test"], facts["seed"])
    write_json(ctx.folder / "fresh.json", {"policy": config.policy, "responses": answered.ids})
    result.facts |= {
        "policy": config.policy, "fresh answers": len(answered.ids), "left_out": answered.left_out
    }  # fmt: skip
    result.notes += answered.notes
    result.headline += f", {len(new)} of them on fresh answers of {config.policy}"
    return result


def _questions(prompt: Prompt, answers: Sequence[Response]) -> list[Question]:
    """Every pair of the answers."""
    ids = [r.id_for(prompt) for r in answers]
    return [
        Question(prompt=prompt.id, responses=(a, b), kind="compare")
        for i, a in enumerate(ids)
        for b in ids[i + 1 :]
    ]


def _simulated(
    ctx: StageContext[AskStage],
    config: AskStage,
    world: World,
    fresh: Sequence[AnsweredPrompt],
    earlier: Sequence[Judgment],
) -> tuple[list[Question], list[Judgment]]:
    """What the simulated raters say of every pair, each seeing its sides in an order of their own, from
    the day after the last judgment on."""
    last = max((datetime.fromisoformat(j.at) for j in earlier), default=START)
    draw, clock = rng(ctx.seed, ctx.name, "raters"), Clock(last + timedelta(days=1))
    asked: list[Question] = []
    judgments: list[Judgment] = []
    for prompt, answers in fresh:
        quality = {r.id_for(prompt): truth(world, world.by_prompt[prompt.id], r) for r in answers}
        texts = {r.id_for(prompt): r.text for r in answers}
        for question in _questions(prompt, answers):
            for rater in draw.sample(config.raters, min(config.overlap, len(config.raters))):
                shown = tuple(draw.sample(question.responses, 2))
                asked.append(Question(prompt=prompt.id, responses=shown, kind="compare"))
                answer = compare(
                    rater, [quality[i] for i in shown], [texts[i] for i in shown], draw
                )
                judgments.append(
                    Judgment(
                        question=asked[-1].id, rater=rater.rater().id, answer=answer,
                        at=clock.tick(8 + 20 * draw.random()),
                    )
                )  # fmt: skip
    return asked, judgments
