"""The table of a comparison: rows by routes, data efficiency, differences; as Markdown and as a page."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.core.rundir import write_text
from accord.core.types import Metric
from accord.pipeline.report import charts
from accord.pipeline.report.charts import Series
from accord.pipeline.report.page import render, style
from accord.pipeline.report.words import number, signed
from accord.pipeline.routes.effort import Effort
from accord.pipeline.routes.figures import RouteOutcome, apart, outcome_of
from accord.pipeline.routes.record import SeedRecord

__all__ = ["RouteTable", "route_table", "write_routes_page"]

INTERVAL = (
    "Intervals are of 95%, paired by prompt where two policies are held against each other. Seeds are "
    "clusters: Student's t over the seeds' own means, and beside it what those have in common because they "
    "answered the same prompts, added in squares; never narrower than of these very seeds over prompts. "
    "With one seed an interval is over prompts alone and says nothing of how far another seed would end."
)
GAP = (
    "share of prompts on which the learned reward puts its answer above the baseline's, less the share on "
    "which the truth does; above 0 the reward claims more than there is"
)


@dataclass(frozen=True)
class RouteTable:
    """What is shown. `rows`: title, meaning, a cell of each route; `efficiency`: route, judgments, their
    share of the most, figure, gain; `differences`: two routes and the figure's difference. `first`: what
    must be read before anything else."""

    title: str
    first: list[str]
    intro: list[str]
    routes: list[str]
    rows: list[tuple[str, str, list[str]]]
    efficiency: list[tuple[str, str, str, str, str]]
    differences: list[tuple[str, str]]
    figure: str
    chart: str
    points: list[tuple[str, list[tuple[float, float]]]]

    def markdown(self) -> str:
        """All of it as Markdown."""
        parts = [f"# {self.title}", *(f"**{text}**" for text in self.first), *self.intro]
        parts.append(_table(["", *self.routes], [[t, *cells] for t, _, cells in self.rows]))
        parts.append(
            "\n".join(f"- {title}: {meaning}." for title, meaning, _ in self.rows if meaning)
        )
        heads = ["route", "judgments", "of the most", self.figure, "over the baseline"]
        parts += ["## With fewer judgments", _table(heads, self.efficiency)]
        parts += ["## Route against route", _table(["", self.figure], self.differences)]
        return "\n\n".join(part for part in parts if part) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "/") for c in line) + " |" for line in lines)


def route_table(runs: Sequence[SeedRecord]) -> RouteTable:
    """Everything of these runs; routes are told apart in the first."""
    routes, main, baseline = runs[0].routes, runs[0].main, runs[0].baseline
    outcomes = {p: outcome_of(runs, p) for route in routes for p in route}
    efforts = {p: [e for run in runs if (e := run.policies[p].effort)] for p in outcomes}
    names = [route[-1] for route in routes]  # called by the one with the most judgments
    points = [
        (r[-1], [(_judgments(efforts[p]), outcomes[p].figure.value or 0.0) for p in r])
        for r in routes
    ]
    dots = [(n, *_ends(outcomes[n].gained), f"{n}: {signed(outcomes[n].gained)}") for n in names]
    seeds = ", ".join(str(run.seed) for run in runs)
    return RouteTable(
        title=f"{runs[0].recipe}: routes from feedback to a policy",
        first=list(runs[0].first),
        intro=[
            f"{len(runs)} run{'s' * (len(runs) > 1)} of the recipe, seed{'s' * (len(runs) > 1)} {seeds}. "
            f"{main.title}: {main.meaning}. The baseline, from which every route starts, is {baseline}: its "
            f"{main.title} is {outcome_of(runs, baseline).figure}. What came before it counts to no route.",
            INTERVAL,
        ],
        routes=names,
        rows=_rows(names, outcomes, efforts, main.title, baseline),
        efficiency=_efficiency(routes, outcomes, efforts),
        differences=[
            (f"{a} - {b}", signed(apart(runs, a, b)))
            for b, a in itertools.combinations(names, 2)
        ],
        figure=main.title,
        chart=charts.intervals(dots, f"{main.title} over {baseline}", zero=True, policies=names),
        points=points,
    )  # fmt: skip


def _ends(m: Metric) -> tuple[float, float | None, float | None]:
    return m.value or 0.0, m.low, m.high


def _rows(
    names: Sequence[str],
    outcomes: dict[str, RouteOutcome],
    efforts: dict[str, list[Effort]],
    figure: str,
    baseline: str,
) -> list[tuple[str, str, list[str]]]:
    """Every row: its title, what it means, a cell of each route."""

    def took(say: Callable[[list[Effort]], str]) -> list[str]:
        return [say(efforts[n]) for n in names]

    def came(say: Callable[[RouteOutcome], str]) -> list[str]:
        return [say(outcomes[n]) for n in names]

    return [
        ("feedback", "who gave the judgments it learned from, and how many", took(_feedback)),
        ("reward model", "", took(lambda e: ", ".join(e[0].reward_models) or "none")),
        ("models while it trains", "roles, and how many whole models play them: the others are adapters "
         "on it. DPO's reference is read once, before", took(_roles)),
        ("wall time", "seconds of all its stages after the baseline, mean over seeds", took(_time)),
        ("peak memory", "the most that one of these stages held", took(_memory)),
        ("tokens it sampled", "its own answers while it trained",
         took(lambda e: _mean([x.sampled for x in e]))),
        ("100 labels by its judge", "seconds, as its stage took them", took(_pace)),
        ("tokens of its judge", "read and written for the labels, where the judge counts them",
         took(lambda e: _mean([float(x.judge_tokens) for x in e]))),
        ("people behind its judge", "judgments that its judge learned from",
         took(lambda e: _mean([float(x.behind_judge) for x in e]))),
        ("its judge agrees with people", "on held-out pairs, by seed", took(_agreement)),
        (figure, "mean over held-out prompts and seeds", came(lambda o: str(o.figure))),
        (f"{figure} over {baseline}", "paired by prompt", came(lambda o: signed(o.gained))),
        ("of these seeds alone", "the same with an interval over prompts: what is known of the policies that "
         "were trained, not of another seed's", came(_here)),
        ("between seeds", f"standard deviation of the seeds' {figure}, and the lowest and highest",
         came(_spread)),
        ("KL", f"nats of an answer from {baseline}", came(lambda o: _or_none(o.distance))),
        ("proxy less truth", GAP, came(lambda o: _or_none(o.gap, sign=True))),
    ]  # fmt: skip


def _efficiency(
    routes: Sequence[Sequence[str]],
    outcomes: dict[str, RouteOutcome],
    efforts: dict[str, list[Effort]],
) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for route in routes:
        most = _judgments(efforts[route[-1]])
        for policy in route:
            n, o = _judgments(efforts[policy]), outcomes[policy]
            share = f"{n / most:.0%}" if most else ""
            rows.append((policy, f"{n:,.0f}", share, str(o.figure), signed(o.gained)))
    return rows


def _judgments(efforts: Sequence[Effort]) -> float:
    return sum(e.judgments for e in efforts) / len(efforts)


def _here(outcome: RouteOutcome) -> str:
    return signed(outcome.here) if len(outcome.by_seed) > 1 else "one seed"


def _mean(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:,.0f}" if mean else "none"


def _feedback(efforts: list[Effort]) -> str:
    counts: dict[str, float] = {}
    for name, n in ((name, n) for e in efforts for name, n in e.sources.items()):
        short = name.partition("#")[0]  # of another seed's judge the weights are others
        counts[short] = counts.get(short, 0.0) + n / len(efforts)
    return "; ".join(f"{name}: {n:,.0f}" for name, n in counts.items()) or "none"


def _pace(efforts: list[Effort]) -> str:
    paces = [e.pace for e in efforts if e.pace is not None]
    return f"{100 * sum(paces) / len(paces):,.1f} s" if paces else "no judge"


def _roles(efforts: list[Effort]) -> str:
    e = efforts[0]
    models = "one model" if e.models == 1 else f"{e.models} models"
    return f"{', '.join(e.roles)} on {models}"


def _time(efforts: list[Effort]) -> str:
    seconds = [e.seconds for e in efforts]
    ends = f" ({min(seconds):,.0f} to {max(seconds):,.0f})" if len(seconds) > 1 else ""
    return f"{sum(seconds) / len(seconds):,.0f} s{ends}"


def _memory(efforts: list[Effort]) -> str:
    peaks = [e.peak for e in efforts if e.peak]
    return f"{max(peaks) / 2**30:.2f} GiB" if peaks else "not measured"


def _agreement(efforts: list[Effort]) -> str:
    kept = [e.agreement for e in efforts if e.agreement]
    return (
        str(kept[0]) if len(kept) == 1 else ", ".join(number(m.value) for m in kept) or "no judge"
    )


def _spread(outcome: RouteOutcome) -> str:
    values = list(outcome.by_seed.values())
    if len(values) < 2:
        return "one seed"
    mean = sum(values) / len(values)
    sd = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{number(sd)} ({number(min(values))} to {number(max(values))})"


def _or_none(m: Metric | None, sign: bool = False) -> str:
    return "not measured" if m is None else signed(m) if sign else str(m)


def write_routes_page(path: Path, table: RouteTable) -> None:
    """The same as one file that needs nothing from outside."""
    series = [Series(name, points) for name, points in table.points]
    curve = charts.lines(series, "judgments it learned from", table.figure)
    write_text(path, render("routes.html.j2", style=style(), t=table, curve=curve))
