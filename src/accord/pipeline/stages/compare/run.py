"""All evaluated policies side by side: a table, paired differences, what detectors say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.measure import Measure, by_name, decisive
from accord.core.rundir import read_json, read_jsonl, write_json, write_jsonl
from accord.core.types import Metric
from accord.evals.base import measured, scores_of
from accord.pipeline.context import StageContext, StageResult, read_result
from accord.pipeline.stage import BASE
from accord.pipeline.stages.compare import MEASURES, VERDICTS, CompareStage
from accord.pipeline.stages.compare.loops import by_principles, feedback_loops
from accord.pipeline.stages.compare.models import add_kl, add_rewards
from accord.pipeline.stages.compare.risks import beyond, handed_on
from accord.pipeline.stages.compare.verdicts import verdicts
from accord.stats.intervals import paired_difference

__all__ = ["alike", "befores", "run"]

Row = dict[str, Any]


def run(ctx: StageContext[CompareStage]) -> StageResult:
    """Learned reward, KL from the baseline and paired differences for all evaluated policies."""
    config = ctx.config
    folders = {
        k.partition("/")[2]: f for k, f in ctx.stages.items() if k.startswith(f"{config.eval}/")
    }
    answers = {policy: read_jsonl(folder / "answers.jsonl") for policy, folder in folders.items()}
    notes = add_rewards(ctx, config.reward, answers) if config.reward else []
    add_kl(ctx, config.baseline, answers)
    for policy, rows in answers.items():
        write_jsonl(ctx.folder / f"{policy}.jsonl", rows)
    known = _measures(list(folders.values()))
    table = {policy: _table_row(rows, known) for policy, rows in answers.items()}
    before = befores(ctx, list(answers))
    notes += alike(answers, before)
    pairs = _pairs(answers, known)
    steps = {f"{p} - {b}": pairs[f"{p} - {b}"] for p, b in before.items()}
    if config.detectors:
        write_jsonl(ctx.folder / VERDICTS, verdicts(ctx, answers, known, before))
    plain = {p: {k: m.model_dump(mode="json") for k, m in row.items()} for p, row in table.items()}
    differences = {
        s: {k: m.model_dump(mode="json") for k, m in d.items()} for s, d in pairs.items()
    }
    write_json(
        ctx.folder / "compare.json",
        {
            "policies": list(answers),
            "table": plain,
            "differences": {step: differences[step] for step in steps},
            "pairs": differences,
            "baseline": config.baseline,
        },
    )
    main = decisive({k: known[k] for d in steps.values() for k in d})
    key = main.name if main and main.better else ""
    headline = "; ".join(f"{s}: {key} {d[key]}" for s, d in steps.items() if key in d)
    flat = {f"{s} {k}": m for s, d in steps.items() for k, m in d.items()}
    risks = handed_on(ctx, [*answers, config.reward or ""])

    def behind(policy: str) -> list[str]:
        return beyond(ctx, policy, before[policy])

    loops = feedback_loops(ctx, table, pairs, before, behind)
    facts = {
        "policies": list(answers),
        "risks": {k: str(m) for k, m in risks.items()},
        "loops": [[k, str(m)] for k, m in loops.items()],  # before, after, change: keys are sorted
        "by_principle": by_principles(ctx, answers, known, before, behind, _apart),
    }
    return StageResult(flat | risks | loops, notes, facts, headline)


def alike(answers: Mapping[str, Sequence[Row]], before: Mapping[str, str]) -> list[str]:
    """A note of each policy that gives the very answers of the one it is held against: the interval of their
    difference is about prompts not asked, and wide."""
    texts = {
        p: {(r["prompt_id"], r["response"]["text"]) for r in rows} for p, rows in answers.items()
    }
    return [
        f"{p} answers every prompt as {b} does, word for word"
        for p, b in before.items()
        if texts[p] == texts[b]
    ]


def _measures(folders: Sequence[Path]) -> dict[str, Measure]:
    """What stands in the answers' rows, as the stages that gave them declare it; its own first."""
    stated = [m.measure for f in folders for m in read_result(f).metrics.values() if m.measure]
    return by_name([*MEASURES, *stated])


def _table_row(rows: Sequence[Row], known: Mapping[str, Measure]) -> dict[str, Metric]:
    """Every declared score of the answers that have it."""
    each = [(scores_of(row), row.get("cluster", row["prompt_id"])) for row in rows]
    values = {k: [(scores[k], own) for scores, own in each if k in scores] for k in known}
    return {
        k: measured(known[k], [v for v, _ in there], [own for _, own in there])
        for k, there in values.items()
        if there
    }


def befores(ctx: StageContext[CompareStage], policies: Sequence[str]) -> dict[str, str]:
    """Each policy but the first -> the one it is held against: the one its training started from, the nearest
    that is among them; else the one before it."""
    before_of = {}
    for at, policy in enumerate(policies[1:], start=1):
        start = policy
        while start in ctx.stages and start not in policies[:at]:
            start = str(read_json(ctx.stages[start] / "config.json").get("init", BASE))
        before_of[policy] = start if start in policies[:at] else policies[at - 1]
    return before_of


def _pairs(
    answers: Mapping[str, Sequence[Row]], known: Mapping[str, Measure]
) -> dict[str, dict[str, Metric]]:
    """Each policy against each before it, paired by the prompts on which both have a score."""
    by_id = {p: {row["prompt_id"]: scores_of(row) for row in rows} for p, rows in answers.items()}
    every = [row for rows in answers.values() for row in rows]
    own = {str(row["prompt_id"]): str(row.get("cluster", row["prompt_id"])) for row in every}
    return {
        f"{after} - {before}": _difference(by_id[after], by_id[before], own, known)
        for before, after in itertools.combinations(answers, 2)
    }


def _apart(after: Sequence[Row], before: Sequence[Row], measure: Measure) -> Metric:
    """One measure's difference, of rows."""
    by_id = [{str(r["prompt_id"]): scores_of(r) for r in rows} for rows in (after, before)]
    own = {str(r["prompt_id"]): str(r.get("cluster", r["prompt_id"])) for r in after}
    row = _difference(by_id[0], by_id[1], own, {measure.name: measure})
    return row.get(measure.name) or Metric(value=None, n=0, note="it is not compared")


def _difference(
    after: Mapping[str, Mapping[str, float]],
    before: Mapping[str, Mapping[str, float]],
    own: Mapping[str, str],
    known: Mapping[str, Measure],
) -> dict[str, Metric]:
    """Every compared score's difference; `own` says to which cluster a prompt belongs."""
    both = [(new, before[i], own[i]) for i, new in after.items() if i in before]
    row = {}
    for name, measure in known.items():
        sides = [(new[name], old[name], c) for new, old, c in both if name in old and name in new]
        if sides and measure.compared:
            new_, old_, clusters = zip(*sides, strict=True)
            apart = paired_difference(
                new_, old_, bounded=measure.span is not None, span=measure.span or 1.0, clusters=clusters
            )  # fmt: skip
            row[name] = apart.of(measure.difference())
    return row
