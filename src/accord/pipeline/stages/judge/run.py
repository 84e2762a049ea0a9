"""Have a judge label on top of a copy of the parent's store, after holding it against people."""

from __future__ import annotations

from accord.core.rundir import write_jsonl, write_text
from accord.judges.cache import Cache
from accord.judges.check import CheckReport, Tried
from accord.judges.principles import principle_rows
from accord.judges.run import JudgeRun
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.pipeline.stages.data import STORE, finish, keep_world, world_of
from accord.pipeline.stages.judge import JudgeStage
from accord.pipeline.stages.judge.asked import Asking, answers_of, constitution_of, questions
from accord.pipeline.stages.judge.checked import checked
from accord.pipeline.stages.judge.labelling import labelled
from accord.pipeline.stages.judge.who import backend_for
from accord.stats.intervals import cluster_mean
from accord.store import Store, copy_store, remove

__all__ = ["run"]

CACHE = "judged.cache"  # of all runs: a judge is asked the same once
LEAST_WEIGHT = 0.01  # measured weights end here: a vote can't count nothing


def run(ctx: StageContext[JudgeStage]) -> StageResult:
    """Label, and freeze a snapshot with the labels. A run that is killed has kept every reply."""
    config = ctx.config
    parent = ctx.stages[config.data]
    opened, facts = data_store(parent)
    remove(ctx.folder / STORE)
    with opened:
        copy_store(opened, ctx.folder / STORE)
    world = world_of(ctx, config.data)
    with (
        Store(ctx.folder / STORE, create=False) as store,
        Cache(ctx.cache_folder / CACHE) as cache,
    ):
        snapshot = store.snapshot(facts["snapshot"])
        fresh, notes = answers_of(ctx, store, facts) if config.policy else ([], [])
        for prompt, answers in fresh:
            store.add_responses(prompt, answers)
        by = constitution_of(ctx)
        backend = backend_for(ctx, world, by.categories if by else {})
        asking = Asking(ctx, backend, cache, snapshot, facts, by)
        report, both = checked(asking)
        done = labelled(asking, store, questions(config, snapshot, fresh, by), report)
        weight = _weight(config, report)
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
            result.facts |= {
                "constitution": f"{by.name}@{by.version}",
                "principles": [
                    [r.principle, r.labels, str(r.share), str(r.sure), str(r.disagrees)]
                    for r in principle_rows(frozen)
                ],
            }
    if report:
        write_text(ctx.folder / "check.json", report.model_dump_json(indent=2))
        write_jsonl(ctx.folder / "calibration.jsonl", map(_row, both))
    return _told(ctx, result, done, report, notes, weight)


def _weight(config: JudgeStage, report: CheckReport | None) -> float:
    """Of the judge's vote. Measured: 2·accuracy - 1, the share of pairs it decides better than a coin."""
    if config.weight != "measured":
        return config.weight
    accuracy = report.parts[0].accuracy.value if report else None
    return max(LEAST_WEIGHT, 2 * (accuracy or 0.5) - 1)


def _row(t: Tried) -> dict[str, object]:
    """A pair that people and judge judged."""
    p = t.verdict.probs[0] if t.verdict.probs else None
    return {"question": t.question, "prompt": t.prompt, "people": int(not t.first), "p": p,
            "missing": t.verdict.missing}  # fmt: skip


def _told(
    ctx: StageContext[JudgeStage],
    result: StageResult,
    done: JudgeRun,
    report: CheckReport | None,
    notes: list[str],
    weight: float,
) -> StageResult:
    asked = len(done.verdicts)
    scripted = ctx.config.judge.startswith("stand-in:")
    result.facts |= {
        "judge": ctx.config.judge, "rater": done.rater, "scripted": scripted, "weight": weight,
        "labels": done.written, "asked": asked, "missing": done.missing,
        "to_people": len(done.to_people) - sum(done.missing.values()), "spent": done.spent.asked,
    }  # fmt: skip
    result.headline += f"; {done.written} of {asked} questions labelled by {done.rater}"
    result.notes += notes
    left = set(done.to_people)
    metrics = {"coverage": cluster_mean(
        [float(q not in left) for q in done.verdicts], list(done.verdicts), share=True)}  # fmt: skip
    if report:
        whole = report.parts[0]
        metrics |= {
            "agreement with people": whole.accuracy, "κ with people": whole.kappa,
            "both orders say the same": report.consistency, "drawn to the first place": report.place,
            "drawn to the longer answer": report.length, "calibration error": report.calibration,
        }  # fmt: skip
        gated = ctx.config.gate is not None
        result.facts["parts"] = [
            [p.within, str(p.accuracy), str(p.kappa), p.missing,
             ("yes" if p.passes else f"no: {p.why}") if gated else "no gate"]
            for p in report.parts
        ]  # fmt: skip
        result.headline += f", who agrees with people on {whole.accuracy}"
    result.metrics |= metrics
    return result
