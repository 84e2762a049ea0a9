"""`accord frontier`: policies of runs on two axes, the front, and the one a rule picks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accord.core.errors import ConfigError, DataError
from accord.core.measure import Measure, by_name
from accord.core.rundir import user_path, write_text
from accord.core.types import Metric
from accord.evals.base import known_measures, measured, scores_of
from accord.pipeline.context import read_result
from accord.stats.frontier import AxisScores, Frontier, frontier
from accord.store.io.readers import BadRow, read_rows

__all__ = ["Policies", "Standing", "read_policies", "standing", "write_page"]

Row = dict[str, Any]
SAMPLES = 3  # replies shown on each axis


@dataclass(frozen=True)
class Policies:
    """The answers of policies by name, and what their figures are."""

    answers: Mapping[str, Sequence[Row]]
    measures: Mapping[str, Measure]


@dataclass(frozen=True)
class Standing:
    """Where policies stand on two axes; `figures` by policy, in the order of `names`."""

    names: list[str]
    axes: tuple[Measure, Measure]
    figures: list[tuple[Metric, Metric]]
    front: Frontier
    limit: float | None

    @property
    def rule(self) -> str:
        first, second = self.axes
        best = "most" if second.better == "more" else "least"
        if self.limit is None:
            return f"{best} {second.title}, whatever its {first.title}"
        bound = "at most" if first.better == "less" else "at least"
        limit = f"{self.limit:.3g}" if first.kind != "share" else f"{100 * self.limit:.3g}%"
        return f"{bound} {limit} {first.title}, then {best} {second.title}"

    @property
    def outcome(self) -> str:
        pick = self.front.pick
        if pick is None:
            return f"Rule: {self.rule}. No policy is within the limit."
        p = self.front.picked[pick]
        return (
            f"Rule: {self.rule}. It picks {self.names[pick]}, and would with probability {p:.2f}."
        )

    def note(self, i: int) -> str:
        over = [self.names[j] for j in self.front.dominated_by[i]]
        return f"dominated by {', '.join(over)}" if over else "on the front"

    def plain(self) -> Row:
        """Everything as JSON."""
        x, y = (m.name for m in self.axes)
        rows = [
            {
                "policy": name, x: fx.model_dump(mode="json"), y: fy.model_dump(mode="json"),
                "on_front": self.front.on_front[i], "within_limit": self.front.within[i],
                "picked": self.front.picked[i],
                "dominated_by": [self.names[j] for j in self.front.dominated_by[i]],
            }
            for i, (name, (fx, fy)) in enumerate(zip(self.names, self.figures, strict=True))
        ]  # fmt: skip
        pick = self.front.pick
        return {
            "rule": self.rule,
            "pick": None if pick is None else self.names[pick],
            "policies": rows,
        }


def read_policies(sources: Sequence[str]) -> Policies:
    """RUN:POLICY, RUN (all its policies) or a file of answers with scores (answers.jsonl)."""
    answers: dict[str, Sequence[Row]] = {}
    known = by_name(known_measures())
    for source in sources:
        path = user_path(source)
        if path.is_file():
            own: dict[str, Sequence[Row]] = {path.resolve().parent.name: answers_of(path)}
            if (path.parent / "result.json").is_file():  # of an eval stage
                stated = [m.measure for m in read_result(path.parent).metrics.values()]
                known |= by_name(m for m in stated if m)
        else:
            own, measures = _of_run(source)
            known |= measures
        for name, rows in own.items():
            if name in answers:
                folder = source.rpartition(":")[0] or source
                name = f"{Path(folder).name}:{name}"
            if name in answers:
                name = source
            if name in answers:
                raise ConfigError("is named twice", where=source, mend="name each policy once")
            answers[name] = rows
    return Policies(answers, known)


def answers_of(path: Path) -> list[Row]:
    """Rows of an answers.jsonl; DataError names the line of one that is none."""
    rows: list[Row] = []
    for place, row in read_rows(path):
        where = f"{path}:{place}"
        if isinstance(row, BadRow):
            raise DataError(row.reason, where=where, allowed=row.allowed)
        prompt, response = row.get("prompt"), row.get("response")
        whole = isinstance(prompt, dict) and isinstance(response, dict) and "text" in response
        if not whole or not isinstance(row.get("prompt_id"), str):
            what = "is no answer with prompt_id, prompt and response"
            raise DataError(
                what, where=where, allowed="answers.jsonl of an eval stage or accord eval --out"
            )
        rows.append(row)
    if not rows:
        raise DataError("holds no answers", where=str(path))
    return rows


def _of_run(source: str) -> tuple[dict[str, Sequence[Row]], dict[str, Measure]]:
    from accord.pipeline.manifest import finished
    from accord.pipeline.report.gather import Outputs

    run, policy = source, ""
    if not user_path(source).exists():
        run, _, policy = source.rpartition(":")
    outputs = Outputs.read(finished(user_path(run or source))[2])
    if not outputs.answers or (policy and policy not in outputs.answers):
        what = f"no evaluated policy {policy!r}" if policy else "no policy was evaluated"
        there = ", ".join(outputs.answers) or "a run with an eval stage"
        raise ConfigError(what, where=source, allowed=there)
    chosen = [policy] if policy else list(outputs.answers)
    return {name: outputs.answers[name] for name in chosen}, dict(outputs.measures)


def standing(
    policies: Policies,
    axes: Sequence[str],
    limit: float | None = None,
    *,
    draws: int = 4000,
    seed: int = 17,
) -> Standing:
    """Where policies stand, on the prompts that all of them have a score of; ConfigError for an axis that is
    not there, DataError where there is nothing to compare on."""
    names = list(policies.answers)
    if len(names) < 2 or len(axes) != 2 or axes[0] == axes[1]:
        what = f"{len(names)} policies on {' and '.join(axes)}"
        raise ConfigError(
            what, where="accord frontier", mend="name two policies or more, and two axes"
        )
    x, y = (_axis(policies, name) for name in axes)
    (x_scores, x_figures), (y_scores, y_figures) = (_scores(policies, m) for m in (x, y))
    front = frontier((x_scores, y_scores), limit, draws=draws, seed=seed)
    figures = list(zip(x_figures, y_figures, strict=True))
    return Standing(names, (x, y), figures, front, limit)


def _axis(policies: Policies, name: str) -> Measure:
    """A declared measure, or `name:less` of one that nobody declares."""
    name, _, better = name.partition(":")
    there = {k for rows in policies.answers.values() for row in rows for k in scores_of(row)}
    measure = policies.measures.get(name)
    if name not in there:
        what = f"no answer has a score {name!r}"
        raise ConfigError(what, where="--axes", allowed=", ".join(sorted(there)))
    if better in ("more", "less"):
        update: Row = {"better": better}
        measure = measure or Measure(name=name, title=name, meaning="a score of the answers")
        return measure.model_copy(update=update)
    if measure is None or measure.better is None:
        what = f"nobody says which way of {name!r} is better"
        raise ConfigError(what, where="--axes", mend=f"write {name}:more or {name}:less")
    if not measure.compared:
        what = f"{measure.title} is of what each policy chose to do, not of the same prompts"
        raise ConfigError(what, where="--axes", mend="name another measure")
    return measure


def _scores(policies: Policies, measure: Measure) -> tuple[AxisScores, list[Metric]]:
    """Every policy's scores on the prompts they share, and its figure there."""
    tables = [_by_prompt(name, rows, measure) for name, rows in policies.answers.items()]
    shared = sorted(set.intersection(*(set(t) for t in tables)))
    every = [row for rows in policies.answers.values() for row in rows]
    own = {str(row["prompt_id"]): str(row["cluster"]) for row in every if "cluster" in row}
    clusters = [own.get(i, i) for i in shared]
    if len(set(clusters)) < 2:
        what = f"{len(shared)} prompts have {measure.title} of all policies"
        raise DataError(
            what, where=" ".join(policies.answers), mend="evaluate them on the same prompts"
        )
    values_PN = np.array([[t[i] for i in shared] for t in tables])
    bounded = measure.kind == "share" or measure.bounded or bool(np.isin(values_PN, (0, 1)).all())
    scores = AxisScores(values_PN, clusters, measure.better or "more", bounded)
    return scores, [measured(measure, row.tolist(), clusters) for row in values_PN]


def _by_prompt(policy: str, rows: Sequence[Row], measure: Measure) -> dict[str, float]:
    """Each prompt's mean over its replies; a score that is NaN is none."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        value = scores_of(row).get(measure.name)
        if value is None or value != value:
            continue
        if isinstance(value, str) or not math.isfinite(value):
            what = f"{measure.name} of prompt {row['prompt_id']} is {value!r}"
            raise DataError(what, where=policy, allowed="a number")
        values[str(row["prompt_id"])].append(value)
    return {prompt: sum(own) / len(own) for prompt, own in values.items()}


def write_page(path: Path, policies: Policies, stands: Standing) -> None:
    """The chart, the table and samples as one file that needs nothing from outside."""
    from accord.pipeline.report import charts
    from accord.pipeline.report.page import render, style

    x, y = stands.axes
    crossed, rows = [], []
    for i, (name, (fx, fy)) in enumerate(zip(stands.names, stands.figures, strict=True)):
        title = f"{name}: {x.title} {fx}; {y.title} {fy}; {stands.note(i)}"
        sides = [(float(f.value or 0), f.low, f.high) for f in (fx, fy)]
        crossed.append((name, sides[0], sides[1], title))
        p = {k: f"{getattr(stands.front, k)[i]:.2f}" for k in ("on_front", "within", "picked")}
        samples = [s for m in (x, y) for s in _worst(policies.answers[name], m)]
        rows.append({"name": name, "x": fx, "y": fy, **p, "note": stands.note(i),
                     "pick": i == stands.front.pick, "samples": samples})  # fmt: skip
    front = [i for i, over in enumerate(stands.front.dominated_by) if not over]
    chart = charts.crosses(crossed, front, x.title, y.title)
    page = render(
        "frontier.html.j2", style=style(), x=x, y=y, chart=chart, rows=rows, outcome=stands.outcome,
        limited=stands.limit is not None,
    )  # fmt: skip
    write_text(path, page)


def _worst(rows: Sequence[Row], measure: Measure) -> list[tuple[str, str, str]]:
    scored = [(v, r) for r in rows if (v := scores_of(r).get(measure.name)) is not None and v == v]
    scored.sort(key=lambda pair: pair[0] if measure.better == "more" else -pair[0])
    return [
        (
            f"{measure.title} {value:g}",
            r["prompt"]["messages"][-1]["content"],
            r["response"]["text"],
        )
        for value, r in scored[:SAMPLES]
    ]
