"""Sample a policy, have the answers judged, freeze a snapshot of all rounds so far."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import yaml

from accord.core.errors import ConfigError, RunError
from accord.core.rundir import write_json, write_jsonl
from accord.core.seeds import derive_seed, rng
from accord.core.types import Judgment, Prompt, Question, Response
from accord.feedback.simulated import compare
from accord.lm.load import load
from accord.lm.room import check_some, fitting, said
from accord.lm.sample import LocalSampler, Sampling
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.pipeline.stages.ask import Ask
from accord.pipeline.stages.data import (
    START,
    STORE,
    Clock,
    finish,
    held_out_prompts,
    keep_world,
    world_of,
)
from accord.pipeline.work import Answer, Known, Work, fit
from accord.store import Store, copy_store, opened_snapshot, remove, split_of
from accord.worlds.base import World, truth

__all__ = ["run", "work"]

STUDY, QUESTIONS = "study.yaml", "questions.jsonl"
Fresh = list[tuple[Prompt, list[Response]]]


def run(ctx: StageContext[Ask]) -> StageResult:
    """Sample, ask, and freeze a snapshot of all rounds so far, in a copy of the parent's store: a file here,
    also where the parent's is a database."""
    config = ctx.config
    parent = ctx.stages[config.data]
    opened, facts = data_store(parent)
    remove(ctx.folder / STORE)
    with opened:
        copy_store(opened, ctx.folder / STORE)
    world = world_of(ctx, config.data)
    with Store(ctx.folder / STORE, create=False) as store:
        earlier = store.snapshot(facts["snapshot"]).judgments
        fresh, left_out = _fresh(ctx, config, store, facts)
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
            shown, judgments = _simulated(ctx, config, world, fresh, earlier)
            store.add_questions(shown)
            store.add_judgments(judgments)
        else:
            _write_study(ctx, config, fresh)
            _from_people(ctx, config, store, questions)
        snapshot = store.freeze(ctx.name)
        if world:
            keep_world(ctx, world, facts["test"])
        result = finish(ctx, snapshot, facts["test"])
    ids = sorted({r.id_for(p) for p, answers in fresh for r in answers})
    write_json(ctx.folder / "fresh.json", {"policy": config.policy, "responses": ids})
    result.facts |= {"policy": config.policy, "fresh answers": len(ids), "left_out": dict(left_out)}
    result.notes += said(left_out)
    result.headline += (
        f", {len(snapshot) - len(earlier)} of them on fresh answers of {config.policy}"
    )
    return result


def _fresh(
    ctx: StageContext[Ask], config: Ask, store: Store, facts: dict[str, object]
) -> tuple[Fresh, Counter[str]]:
    """n distinct answers to each chosen prompt; a prompt that got fewer than two asks nothing. And how many
    prompts are too long to be answered."""
    lm = load(ctx.policy(config.policy))
    kept, left_out = fitting(lm, list(store.prompts()), config.max_new_tokens, config.max_prompt)
    check_some(kept, left_out, f"stage {ctx.name}")
    for text in said(left_out):
        ctx.reporter.note(text)
    sides: dict[str, list[Prompt]] = {"train": [], "test": []}
    for prompt in sorted(kept, key=lambda p: p.id):
        sides[split_of(prompt.id, float(facts["test"]), int(facts["seed"]))].append(prompt)  # type: ignore[call-overload, arg-type]
    draw = rng(ctx.seed, ctx.name, "prompts")
    chosen = [
        p for side, most in (("train", config.prompts), ("test", config.held_out))
        for p in draw.sample(sides[side], min(most, len(sides[side])))
    ]  # fmt: skip
    sampler = LocalSampler(lm, batch_size=config.batch_size, source=f"model:{config.policy}")
    how = Sampling(
        n=config.n, temperature=config.temperature, max_new_tokens=config.max_new_tokens,
        seed=derive_seed(ctx.seed, ctx.name),
    )  # fmt: skip
    done = sampler(chosen, how, lambda d, n: ctx.reporter.progress(d, n, "fresh answers"))
    distinct = [list({r.text: r for r in rs if r.text.strip()}.values()) for rs in done]
    return [(p, rs) for p, rs in zip(chosen, distinct, strict=True) if len(rs) > 1], left_out


def _questions(prompt: Prompt, answers: Sequence[Response]) -> list[Question]:
    """Every pair of the answers."""
    ids = [r.id_for(prompt) for r in answers]
    return [
        Question(prompt=prompt.id, responses=(a, b), kind="compare")
        for i, a in enumerate(ids)
        for b in ids[i + 1 :]
    ]


def _simulated(
    ctx: StageContext[Ask], config: Ask, world: World, fresh: Fresh, earlier: Sequence[Judgment]
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


def _write_study(ctx: StageContext[Ask], config: Ask, fresh: Fresh) -> None:
    """What `accord collect serve` takes: every pair of fresh answers. Ids are made of content, so
    judgments given there are about the very answers here."""
    rows = [
        {
            "prompt": [m.model_dump() for m in prompt.messages],
            "responses": [r.model_dump(include={"text", "source", "tool_calls"}) for r in pair],
            **({"tools": prompt.tools} if prompt.tools else {}),
        }
        for prompt, answers in fresh
        for pair in itertools.combinations(answers, 2)
    ]
    write_jsonl(ctx.folder / QUESTIONS, rows)
    study = {
        "name": ctx.name, "title": f"Answers of {config.policy}",
        "overlap": {"min": config.overlap, "max": config.overlap},
        "questions": [{"kind": "compare", "file": QUESTIONS}],
    }  # fmt: skip
    (ctx.folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")


def _from_people(
    ctx: StageContext[Ask], config: Ask, store: Store, questions: Sequence[Question]
) -> None:
    """Take people's judgments of these questions from `answers`; RunError while there are none."""
    told: list[Judgment] = []
    if config.answers:
        wanted = {frozenset(q.responses): q for q in questions}
        with opened_snapshot(config.answers, ctx.recipe_folder) as snapshot:
            asked = snapshot.tables.questions
            told = [
                j for j in snapshot.judgments if frozenset(asked[j.question].responses) in wanted
            ]
            store.add_questions([asked[j.question] for j in told])  # in the order each rater saw
            raters = {j.rater for j in told}
            store.add_raters([r for r in snapshot.store.raters() if r.id in raters])
        store.add_judgments(sorted(told, key=lambda j: (datetime.fromisoformat(j.at), j.id)))
    if not told:
        raise RunError(
            f"{len(questions)} questions wait for people in {ctx.folder / STUDY}",
            where=f"stage {ctx.name}",
            mend="have them judged (accord collect serve), freeze a snapshot, and run again with "
            f"--set {ctx.name}.answers=STORE@SNAPSHOT",
        )


def work(ctx: StageContext[Ask], known: Known) -> Work:
    config = ctx.config
    lengths = known.written(ctx, config.policy, config.max_new_tokens)
    asked = config.prompts + config.held_out
    prompts, long = fit(known, held_out_prompts(ctx, config.data), config, ctx.name)
    prompts = prompts[:asked]
    times = asked / max(1, len(prompts))
    answer = Answer(prompts, config.n, lengths, config.max_new_tokens, config.batch_size, times)
    return Work([answer], said=long)
