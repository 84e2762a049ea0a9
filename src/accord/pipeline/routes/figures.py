"""What came out of a route, over seeds: the figure that decides, its distance from the baseline's, and how
far the learned reward is from it. Everything is paired by prompt; seeds are clusters (`stats.seeds`)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accord.core.artifact import Comparison
from accord.core.errors import DataError
from accord.core.measure import Measure
from accord.core.rundir import read_jsonl
from accord.core.types import Metric
from accord.evals.base import scores_of
from accord.pipeline.report.gather import Done
from accord.pipeline.routes.route import trainings
from accord.pipeline.routes.runs import SeedRun
from accord.stats.seeds import over_seeds

__all__ = ["RouteOutcome", "main_of", "outcome_of", "over_runs"]

Row = dict[str, Any]
Scored = Mapping[str, tuple[float, str]]  # prompt -> value, cluster


@dataclass(frozen=True)
class RouteOutcome:
    """Of one policy over all runs: the figure that decides, and less the baseline's; its mean by seed; nats
    from the baseline; and P(the learned reward prefers its answer to the baseline's) less the same of the
    figure."""

    figure: Metric
    gained: Metric
    by_seed: dict[int, float] = field(default_factory=dict)
    distance: Metric | None = None
    gap: Metric | None = None


def main_of(runs: Sequence[SeedRun]) -> Measure:
    """The figure that decides."""
    return runs[0].outputs.main


def over_runs(
    runs: Sequence[SeedRun],
    scored: Callable[[SeedRun], Scored],
    span: float,
    least: float | None = None,
) -> Metric:
    """The mean over runs of what `scored` says of each prompt, which lies between `least` (by default -span)
    and `span`."""
    rows = [(v, run.seed, c) for run in runs for v, c in scored(run).values()]
    values, seeds, clusters = zip(*rows, strict=True) if rows else ((), (), ())
    return over_seeds(values, seeds, clusters, ends=(-span if least is None else least, span))


def outcome_of(runs: Sequence[SeedRun], policy: str) -> RouteOutcome:
    """What came of a policy; DataError where the baseline was not asked the same prompts."""
    main = main_of(runs)
    span = main.span or float("inf")
    own = {run.seed: _of(run.outputs.answers.get(policy, ()), main.name) for run in runs}
    if not all(own.values()):
        raise DataError(f"has no {main.title} in some run", where=policy)
    least = 0.0 if main.span and main.kind != "difference" else None
    figure = over_runs(runs, lambda run: own[run.seed], span, least)
    baseline = runs[0].outputs.baseline
    return RouteOutcome(
        figure=figure,
        gained=over_runs(runs, lambda run: paired(run, policy, baseline, main.name), span),
        by_seed={s: sum(v for v, _ in rows.values()) / len(rows) for s, rows in own.items()},
        distance=_distance(runs, policy),
        gap=_gap(runs, policy, baseline, main.name),
    )


def paired(run: SeedRun, after: str, before: str, name: str) -> Scored:
    """How much more one policy has of a score than another, by prompt."""
    sides = [_of(run.outputs.answers.get(p, ()), name) for p in (after, before)]
    shared = [i for i in sides[0] if i in sides[1]]
    if not shared:
        what = f"{after} and {before} share no prompt with {name}"
        raise DataError(what, where=f"seed {run.seed}", mend="evaluate both on the same data")
    return {i: (sides[0][i][0] - sides[1][i][0], sides[0][i][1]) for i in shared}


def _of(rows: Sequence[Row], name: str) -> Scored:
    each = [(r, scores_of(r)) for r in rows]
    return {
        str(r["prompt_id"]): (scores[name], str(r.get("cluster", r["prompt_id"])))
        for r, scores in each
        if name in scores
    }


def _distance(runs: Sequence[SeedRun], policy: str) -> Metric | None:
    compared = [(run, _compared(run, policy)) for run in runs]
    measure = runs[0].outputs.of_role("distance")
    if measure is None or any(c is None for _, c in compared):
        return None
    rows = {run.seed: _rows(c, policy) for run, c in compared}
    return over_runs(runs, lambda run: _of(rows[run.seed], measure.name), float("inf"))


def _gap(runs: Sequence[SeedRun], policy: str, baseline: str, truth: str) -> Metric | None:
    """By prompt: 1 where the policy's answer has more than the baseline's, 1/2 where as much; of the learned
    reward less of the truth. Above 0 the reward claims more wins than there are."""
    proxy = runs[0].outputs.of_role("proxy")
    if proxy is None or proxy.name == truth:
        return None
    by_seed: dict[Hashable, Scored] = {}
    for run in runs:
        compared = _compared(run, policy)
        if compared is None:
            return None
        after, before = (_rows(compared, p) for p in (policy, baseline))
        claims, is_so = (_wins(after, before, k) for k in (proxy.name, truth))
        by_seed[run.seed] = {i: (v - is_so[i][0], c) for i, (v, c) in claims.items() if i in is_so}
    return over_runs(runs, lambda run: by_seed[run.seed], 1.0)


def _wins(after: Sequence[Row], before: Sequence[Row], name: str) -> Scored:
    new, old = _of(after, name), _of(before, name)
    signs = {i: (v > old[i][0]) - (v < old[i][0]) for i, (v, _) in new.items() if i in old}
    return {i: ((1 + sign) / 2, new[i][1]) for i, sign in signs.items()}


def _rows(compared: Done | None, policy: str) -> list[Row]:
    return read_jsonl(compared.folder / f"{policy}.jsonl") if compared else []


def _compared(run: SeedRun, policy: str) -> Done | None:
    """The comparison that scored a policy's answers: by the reward model that it was trained on, else by one
    that learned from its data, else any."""
    stages = [s for s in run.outputs.giving(Comparison) if (s.folder / f"{policy}.jsonl").exists()]
    own = trainings(run, policy)
    data = {getattr(run.configs[n], "data", None) for n in own}

    def rank(stage: Done) -> int:
        reward = stage.config.get("reward")
        config = run.configs.get(str(reward))
        return 0 if reward in own else 1 if config and getattr(config, "data", "") in data else 2

    return min(stages, key=rank, default=None)
