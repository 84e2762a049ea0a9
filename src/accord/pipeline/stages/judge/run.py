"""Have a judge label on top of a copy of the parent's store, after holding it against people."""

from __future__ import annotations

from accord.core.rundir import write_jsonl, write_text
from accord.judges.cache import Cache
from accord.judges.files import read_examples, read_references
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import copied, finish, keep_world, world_of
from accord.pipeline.stages.judge import JudgeStage
from accord.pipeline.stages.judge.asked import answers_of, constitution_of, questions
from accord.pipeline.stages.judge.asking import Asking
from accord.pipeline.stages.judge.checked import checked
from accord.pipeline.stages.judge.labelling import labelled
from accord.pipeline.stages.judge.outcome import outcome, principles_of, row_of, weight_of
from accord.pipeline.stages.judge.who import backend_for

__all__ = ["run"]

CACHE = "judged.cache"  # of all runs: a judge is asked the same once


def run(ctx: StageContext[JudgeStage]) -> StageResult:
    """Label, and freeze a snapshot with the labels. A run that is killed has kept every reply."""
    config = ctx.config
    world = world_of(ctx, config.data)
    opened, facts = copied(ctx, config.data)
    with (
        opened as store,
        Cache(ctx.cache_folder / CACHE) as cache,
    ):
        snapshot = store.snapshot(facts["snapshot"])
        fresh, notes = answers_of(ctx, store, facts) if config.policy else ([], [])
        for prompt, answers in fresh:
            store.add_responses(prompt, answers)
        by = constitution_of(ctx)
        backend = backend_for(ctx, world, by.categories if by else {})
        asking = Asking(
            ctx, backend, cache, snapshot, facts, by,
            read_examples(
                config.examples and ctx.path(config.examples), config.asks.template,
                config.asks.axes_of(config.axes),
            ),
            read_references(config.references and ctx.path(config.references)),
        )  # fmt: skip
        report, both = checked(asking)
        items = questions(config, snapshot, fresh, by, asking.references)
        done = labelled(asking, store, items, report)
        weight = weight_of(config, report)
        judges = {r.id for r in store.raters() if r.name in done.raters}
        labels = {j.id for j in store.judgments_on(done.verdicts) if j.rater in judges}
        people = {j.id for j in snapshot.judgments} if config.people == "keep" else set()
        frozen = store.freeze(
            ctx.name,
            only=labels | people,
            weights={**snapshot.selection.weights, **dict.fromkeys(done.raters, weight)}
            if weight != 1.0
            else snapshot.selection.weights,
        )
        if world:
            keep_world(ctx, world, facts["test"])
        result = finish(ctx, frozen, facts["test"], facts["seed"])
        if by:
            result.facts |= principles_of(by, frozen)
    if report:
        write_text(ctx.folder / "check.json", report.model_dump_json(indent=2))
        write_jsonl(ctx.folder / "calibration.jsonl", map(row_of, both))
    return outcome(ctx, result, done, report, notes, weight)
