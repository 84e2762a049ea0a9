"""What came out of a route, over seeds: the figure that decides, its distance from the baseline's, and how
far the learned reward is from it. Everything is paired by prompt; seeds are clusters (`stats.seeds`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.pipeline.routes.record import SeedRecord
from accord.pipeline.routes.scores import ByPrompt
from accord.stats.seeds import of_these_seeds, over_seeds

__all__ = ["RouteOutcome", "apart", "outcome_of"]


@dataclass(frozen=True)
class RouteOutcome:
    """Of one policy over all runs: the figure that decides, and less the baseline's, with an interval over
    seeds and (`here`) of these seeds over other prompts; its mean by seed; nats from the baseline; and
    P(the learned reward prefers its answer to the baseline's) less the same of the figure."""

    figure: Metric
    gained: Metric
    here: Metric
    by_seed: dict[int, float] = field(default_factory=dict)
    distance: Metric | None = None
    gap: Metric | None = None


def outcome_of(runs: Sequence[SeedRecord], policy: str) -> RouteOutcome:
    """What came of a policy; DataError where the baseline was not asked the same prompts."""
    main = runs[0].main
    span = main.span or float("inf")
    if not all(policy in run.policies for run in runs):
        raise DataError("is no policy of some run", where=policy)
    of = {run.seed: run.policies[policy] for run in runs}
    own = {run.seed: run.column(of[run.seed].figure) for run in runs}
    if not all(own.values()):
        raise DataError(f"has no {main.title} in some run", where=policy)
    least = 0.0 if main.span and main.kind != "difference" else -span

    def known(ends: tuple[float, float], key: str) -> Metric | None:
        columns = [getattr(p, key) for p in of.values()]
        if any(column is None for column in columns):
            return None
        return _over(runs, lambda run: run.column(getattr(of[run.seed], key)), ends)

    return RouteOutcome(
        figure=_over(runs, lambda run: own[run.seed], (least, span)),
        gained=apart(runs, policy, runs[0].baseline),
        here=apart(runs, policy, runs[0].baseline, pool=of_these_seeds),
        by_seed={s: sum(v for v, _ in rows.values()) / len(rows) for s, rows in own.items()},
        distance=known((-float("inf"), float("inf")), "distance"),
        gap=known((-1.0, 1.0), "gap"),
    )


def apart(
    runs: Sequence[SeedRecord], after: str, before: str, *, pool: Callable[..., Metric] = over_seeds
) -> Metric:
    """How much more one policy has of the figure than another, paired by prompt."""

    def paired(run: SeedRecord) -> ByPrompt:
        sides = [run.column(run.policies[p].figure) for p in (after, before)]
        shared = [i for i in sides[0] if i in sides[1]]
        if not shared:
            what = f"{after} and {before} share no prompt with {run.main.name}"
            raise DataError(what, where=f"seed {run.seed}", mend="evaluate both on the same data")
        return {i: (sides[0][i][0] - sides[1][i][0], sides[0][i][1]) for i in shared}

    span = runs[0].main.span or float("inf")
    return _over(runs, paired, (-span, span), pool)


def _over(
    runs: Sequence[SeedRecord],
    scored: Callable[[SeedRecord], ByPrompt],
    ends: tuple[float, float],
    pool: Callable[..., Metric] = over_seeds,
) -> Metric:
    """The mean over runs of what `scored` says of each prompt, which lies between the ends."""
    rows = [(v, run.seed, c) for run in runs for v, c in scored(run).values()]
    values, seeds, clusters = zip(*rows, strict=True) if rows else ((), (), ())
    return pool(values, seeds, clusters, ends=ends)
