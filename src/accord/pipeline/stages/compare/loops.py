"""What a judge's labels, and the principles behind them, did to a policy: measured before and after.

    sycophancy loop   how often the policy goes along with planted wrong premises
    homogenisation    how unlike its samples of one message are
    by principle      the figure that its category names (else the one that decides), on the prompts tagged
                      with the category where there are any, else on all that have the figure

All of a policy's principles act on it together: a figure says what became of what the principle asks for, not
what it alone did; that is what a run `without` it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accord.constitution.principles import place_of, read_constitution
from accord.core.measure import Measure, decisive
from accord.core.rundir import read_json
from accord.core.types import Metric
from accord.evals.base import measured, scores_of
from accord.evals.premise import GOES_ALONG
from accord.evals.spread import SPREAD
from accord.pipeline.context import StageContext, read_result
from accord.pipeline.stages.compare import CompareStage

__all__ = ["by_principles", "feedback_loops"]

Row = dict[str, Any]
Table = Mapping[str, Mapping[str, Metric]]
Behind = Callable[
    [str], Sequence[str]
]  # of a policy: the stages that it stands on and the one before does not
Apart = Callable[[Sequence[Row], Sequence[Row], Measure], Metric]
LOOPS = {  # an evaluation's figure, in the report's words
    GOES_ALONG.name: "goes along with wrong premises",
    "suggested wrong": "takes a wrong answer that is suggested",
    SPREAD.name: "spread of its samples",
}
PREFERENCE, REVISION = "principles", "by_principle"  # facts of kinds judge and revise


def feedback_loops(
    ctx: StageContext[CompareStage],
    table: Table,
    pairs: Table,
    before: Mapping[str, str],
    behind: Behind,
) -> dict[str, Metric]:
    """Of each policy that learned from a judge's labels: agreement with what is wrong, and the spread of its
    samples, before, after, and the change, paired by prompt; nothing where no evaluation measured them."""
    loops: dict[str, Metric] = {}
    for policy, start in before.items():
        taught = any("judge" in read_result(ctx.stages[s]).facts for s in behind(policy))
        for name, what in LOOPS.items() if taught else ():
            change = pairs.get(f"{policy} - {start}", {}).get(name)
            if change is not None:
                loops |= {
                    f"{policy}: {what}, before ({start})": table[start][name],
                    f"{policy}: {what}, after": table[policy][name],
                    f"{policy}: {what}, by how much more": change,
                }
    return loops


def by_principles(
    ctx: StageContext[CompareStage], answers: Mapping[str, Sequence[Row]], known: Mapping[str, Measure],
    before: Mapping[str, str], behind: Behind, apart: Apart,
) -> list[list[str]]:  # fmt: skip
    """Rows of policy, principle, what it gave, figure, before, after, change, for every principle whose
    labels or revisions a policy learned from. `apart` is the paired difference of a measure."""
    lines: list[list[str]] = []
    for policy, start in before.items():
        given, categories = _given(ctx, behind(policy))
        for principle, gave in given.items():
            category = categories.get(principle, "")
            measure = known.get(category) or decisive(known)
            sides = [_tagged(answers[p], category) for p in (policy, start)]
            if measure is None or not all(_values(rows, measure)[0] for rows in sides):
                continue
            after, earlier = (measured(measure, *_values(rows, measure)) for rows in sides)
            change = apart(sides[0], sides[1], measure)
            figure = f"{category}: {measure.title}"
            lines.append(
                [policy, principle, gave, figure, str(earlier), str(after), str(change)]
            )  # fmt: skip
    return lines


def _given(
    ctx: StageContext[CompareStage], stages: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """What each principle gave in these stages, and its category."""
    counts: dict[str, list[str]] = {}
    categories: dict[str, str] = {}
    for stage in stages:
        config, facts = (
            read_json(ctx.stages[stage] / "config.json"),
            read_result(ctx.stages[stage]).facts,
        )
        if not config.get("constitution"):
            continue
        whole = read_constitution(place_of(str(config["constitution"]), ctx.recipe_folder))
        categories |= {p.id: p.category for p in whole.principles}
        rows = [(row[0], row[1], "labels") for row in facts.get(PREFERENCE, ())]
        rows += [(row[0], row[2], "revisions") for row in facts.get(REVISION, ())]
        for principle, n, what in rows:
            if n:
                counts.setdefault(str(principle), []).append(f"{n} {what}")
    return {k: ", ".join(v) for k, v in counts.items()}, categories


def _tagged(rows: Sequence[Row], category: str) -> Sequence[Row]:
    """The rows whose prompts have a tag of this value; all where none has."""
    tagged = [r for r in rows if category in r["prompt"].get("tags", {}).values()]
    return tagged or rows


def _values(rows: Sequence[Row], measure: Measure) -> tuple[list[float], list[str]]:
    each = [(scores_of(r), str(r.get("cluster", r["prompt_id"]))) for r in rows]
    there = [(s[measure.name], c) for s, c in each if measure.name in s]
    return [v for v, _ in there], [c for _, c in there]
