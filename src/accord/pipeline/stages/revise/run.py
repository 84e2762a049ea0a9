"""Answer, criticise, revise, and keep every step as a writing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from accord.constitution.principles import (
    Constitution,
    Principle,
    chosen,
    place_of,
    read_constitution,
)
from accord.constitution.requests import VERSION
from accord.core.rundir import write_jsonl
from accord.core.types import Judgment, Prompt, Question, Rater, Response, Writing
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import START, Clock, copied, finish, keep_world, world_of
from accord.pipeline.stages.revise import ReviseStage
from accord.pipeline.stages.revise.answers import first_answers
from accord.pipeline.stages.revise.reviser import Reviser, reviser_for
from accord.stats.intervals import cluster_mean
from accord.store import Snapshot, Store, split_of
from accord.worlds.base import World, truth

__all__ = ["run"]

EXAMPLES, SHOWN = 3, 160


@dataclass(frozen=True)
class Step:
    """One revision: of which answer, by which principle, what was said and written."""

    prompt: Prompt
    number: int
    principle: Principle
    before: Response
    critique: str
    after: Response


def run(ctx: StageContext[ReviseStage]) -> StageResult:
    """Answers to training prompts, revised round by round, in a copy of the parent's store."""
    config = ctx.config
    world = world_of(ctx, config.data)
    constitution = read_constitution(place_of(config.constitution, ctx.recipe_folder))
    constitution = constitution.but(config.without)
    opened, facts = copied(ctx, config.data)
    with opened as store:
        snapshot = store.snapshot(facts["snapshot"])
        prompts, answers, sampler, notes = first_answers(ctx, store, facts)
        reviser = reviser_for(ctx, sampler, world, constitution.categories)
        rater = _rater(config, constitution)
        steps, stayed = _revised(ctx, reviser, constitution, rater, prompts, answers)
        last = _kept(store, constitution, rater, steps)
        frozen = store.freeze(
            ctx.name,
            only={*last, *_mixed(snapshot, config, facts)},
            weights=snapshot.selection.weights,
        )
        if world:
            keep_world(ctx, world, facts["test"])
        result = finish(ctx, frozen, facts["test"], facts["seed"])
    write_jsonl(ctx.folder / "revisions.jsonl", map(_row, steps))
    result.notes += notes
    result.notes += [f"{n} revisions were {what}: the answer stayed" for what, n in stayed.items()]
    return _with_figures(ctx, result, constitution, steps, world)


def _revised(
    ctx: StageContext[ReviseStage],
    reviser: Reviser,
    constitution: Constitution,
    rater: Rater,
    prompts: Sequence[Prompt],
    first: Sequence[Response],
) -> tuple[list[Step], Counter[str]]:
    """All steps, and how many revisions were none, by why: nothing, or cut off, which an end of turn must
    not be learned from."""
    steps: list[Step] = []
    answers, stayed = list(first), Counter[str]()
    for number in range(1, ctx.config.rounds + 1):
        by = [chosen(constitution, f"{ctx.seed}/{p.id}/{number}")[0] for p in prompts]
        revisions = reviser(list(zip(prompts, answers, by, strict=True)), number)
        for at, (critique, after) in enumerate(revisions):
            if not after.text.strip():
                stayed["empty"] += 1
            elif after.finish == "length":
                stayed[f"cut off at {ctx.config.max_new_tokens} tokens"] += 1
            else:
                after = after.model_copy(update={"source": f"model:{rater.name}"})
                steps.append(Step(prompts[at], number, by[at], answers[at], critique, after))
                answers[at] = after
        ctx.reporter.progress(number, ctx.config.rounds, "rounds of revision")
    return steps, stayed


def _rater(config: ReviseStage, constitution: Constitution) -> Rater:
    """Whose the revisions are."""
    critic = config.critic or config.policy
    facts: dict[str, Any] = {
        "model": critic,
        "constitution": f"{constitution.name}@{constitution.version}",
    }
    facts |= {"stand_in": True} if critic.startswith("stand-in:") else {}
    return Rater(name=f"{critic} revises by {facts['constitution']}", kind="model", facts=facts)


def _kept(
    store: Store, constitution: Constitution, rater: Rater, steps: Sequence[Step]
) -> list[str]:
    """Every step as a judgment in the store; the ids of each prompt's last."""
    first = max((datetime.fromisoformat(j.at) for j in store.judgments()), default=START)
    clock, questions, judgments = Clock(first + timedelta(days=1)), [], []
    last: dict[str, str] = {}
    for step in steps:
        store.add_responses(step.prompt, [step.before])
        question = Question(
            prompt=step.prompt.id, responses=(step.before.id_for(step.prompt),), kind="write",
            guideline=f"critique@{VERSION} {constitution.label(step.principle)}",
        )  # fmt: skip
        written = Writing(
            text=step.after.text, revision_of=question.responses[0], principle=step.principle.id
        )
        questions.append(question)
        judgments.append(
            Judgment(question=question.id, rater=rater.id, answer=written, at=clock.tick(1),
                     rationale=step.critique or None)
        )  # fmt: skip
        last[step.prompt.id] = judgments[-1].id
    store.add_raters([rater])
    store.add_questions(questions)
    store.add_judgments(judgments)
    return list(last.values())


def _mixed(snapshot: Snapshot, config: ReviseStage, facts: dict[str, Any]) -> list[str]:
    """Demonstrations: of the training side as many as are wanted, and the held-out ones to measure on."""
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for j in snapshot.judgments:
        if isinstance(j.answer, Writing):
            prompt = snapshot.tables.questions[j.question].prompt
            sides[split_of(prompt, facts["test"], facts["seed"])].append(j.id)
    return sorted(sides["train"])[: config.demonstrations] + sides["test"]


def _row(step: Step) -> dict[str, Any]:
    return {
        "prompt": step.prompt.id, "round": step.number, "principle": step.principle.id,
        "before": step.before.text, "critique": step.critique, "after": step.after.text,
    }  # fmt: skip


def _with_figures(
    ctx: StageContext[ReviseStage],
    result: StageResult,
    constitution: Constitution,
    steps: Sequence[Step],
    world: World | None,
) -> StageResult:
    critic = ctx.config.critic or ctx.config.policy
    changed = [s for s in steps if s.after.text != s.before.text]
    gains = {id(s): _gain(world, s) for s in steps} if world else {}
    rows: list[list[Any]] = []
    for p in constitution.principles:
        mine = [s for s in steps if s.principle.id == p.id]
        gained = [gains[id(s)] for s in mine if gains]
        rows.append([
            p.id, p.category, len(mine), sum(s in changed for s in mine),
            f"{sum(gained) / len(gained):+.3f}" if gained else "",
        ])  # fmt: skip
    result.facts |= {
        "critic": critic, "scripted": critic.startswith("stand-in:"),
        "constitution": f"{constitution.name}@{constitution.version}", "by_principle": rows,
        "examples": [
            {
                "principle": s.principle.id,
                "before": s.before.text[:SHOWN],
                "after": s.after.text[:SHOWN],
            }
            for s in changed[:EXAMPLES]
        ],
    }  # fmt: skip
    ids = [s.prompt.id for s in steps]
    result.metrics["changed"] = cluster_mean(
        [float(s.after.text != s.before.text) for s in steps], ids, share=True
    )
    if gains:
        total = dict.fromkeys(ids, 0.0)
        for s in steps:
            total[s.prompt.id] += gains[id(s)]
        result.metrics["change in truth"] = cluster_mean(
            list(total.values()), list(total), share=False
        )
    result.headline += f"; {len(steps)} revisions by {sum(r[2] > 0 for r in rows)} principles"
    return result


def _gain(world: World, step: Step) -> float:
    case = world.by_prompt[step.prompt.id]
    return truth(world, case, step.after) - truth(world, case, step.before)
