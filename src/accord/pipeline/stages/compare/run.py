"""All evaluated policies side by side: a table, paired differences, what detectors say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.measure import Measure, by_name, decisive
from accord.core.rundir import read_jsonl, write_json, write_jsonl
from accord.core.types import Metric
from accord.detect import base as detect
from accord.detect.panel import looked
from accord.evals.base import measured, scores_of
from accord.pipeline.auditing import context_of, replies_of
from accord.pipeline.context import StageContext, StageResult, read_result
from accord.pipeline.stages.compare import MEASURES, VERDICTS, CompareStage
from accord.pipeline.stages.compare.models import add_kl, add_rewards
from accord.stats.intervals import paired_difference

__all__ = ["run"]

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
    steps = _differences(answers, known)
    if config.detectors:
        write_jsonl(ctx.folder / VERDICTS, _verdicts(config, answers, known))
    plain = {p: {k: m.model_dump(mode="json") for k, m in row.items()} for p, row in table.items()}
    told = {s: {k: m.model_dump(mode="json") for k, m in d.items()} for s, d in steps.items()}
    write_json(
        ctx.folder / "compare.json",
        {
            "policies": list(answers),
            "table": plain,
            "differences": told,
            "baseline": config.baseline,
        },
    )
    main = decisive({k: known[k] for d in steps.values() for k in d})
    key = main.name if main and main.better else ""
    headline = "; ".join(f"{s}: {key} {d[key]}" for s, d in steps.items() if key in d)
    flat = {f"{s} {k}": m for s, d in steps.items() for k, m in d.items()}
    return StageResult(flat, notes, {"policies": list(answers)}, headline)


def _measures(folders: Sequence[Path]) -> dict[str, Measure]:
    """What stands in the answers' rows, as the stages that gave them declare it; its own first."""
    told = [m.measure for f in folders for m in read_result(f).metrics.values() if m.measure]
    return by_name([*MEASURES, *told])


def _values(rows: Sequence[Row], known: Mapping[str, Measure]) -> dict[str, list[float]]:
    """Every declared score of the answers that have it."""
    each = [scores_of(row) for row in rows]
    found = {k: [row[k] for row in each if k in row] for k in known}
    return {k: values for k, values in found.items() if values}


def _table_row(rows: Sequence[Row], known: Mapping[str, Measure]) -> dict[str, Metric]:
    return {name: measured(known[name], values) for name, values in _values(rows, known).items()}


def _differences(
    answers: Mapping[str, Sequence[Row]], known: Mapping[str, Measure]
) -> dict[str, dict[str, Metric]]:
    """Each policy against the one before it, paired by the prompts on which both have a score."""
    found: dict[str, dict[str, Metric]] = {}
    for before, after in itertools.pairwise(answers):
        old_by = {row["prompt_id"]: scores_of(row) for row in answers[before]}
        new_by = {row["prompt_id"]: scores_of(row) for row in answers[after]}
        both = [(old_by[i], new) for i, new in new_by.items() if i in old_by]
        row = {}
        for name, measure in known.items():
            sides = [(new[name], old[name]) for old, new in both if name in old and name in new]
            if sides and measure.compared:
                new_, old_ = zip(*sides, strict=True)
                apart = paired_difference(new_, old_, bounded=measure.bounded)
                row[name] = apart.of(measure.difference())
        found[f"{after} - {before}"] = row
    return found


def _verdicts(
    config: CompareStage, answers: Mapping[str, Sequence[Row]], known: Mapping[str, Measure]
) -> list[Row]:
    """What each detector says of each policy beside the one before it."""
    makes = [make for _, _, make in detect.configured(config.detectors or ())]
    seen = {policy: replies_of(rows) for policy, rows in answers.items()}
    return looked(makes, context_of(known), seen, [(b, a) for a, b in itertools.pairwise(answers)])
