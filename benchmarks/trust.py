"""Is trust quick enough to be asked for? Agreement and Bradley-Terry over a million judgments.

    python -m benchmarks.trust [--judgments N]

Each figure includes its interval. `--judgments N` also simulates a store of N comparisons and times the whole
report of `accord trust` on it. Exits with 1 when α takes 10 s or Bradley-Terry 20 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from accord.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from accord.stats.ranking import bradley_terry
from accord.stats.raters import rater_skills
from benchmarks.quiet import alone

UNITS, EACH = 200_000, 5
ITEMS, COMPARISONS = 10_000, 1_000_000
ALPHA_LIMIT, RANKING_LIMIT = 10.0, 20.0


def timed(what: str, of: Callable[[], Any], show: Callable[[Any], object] = str) -> float:
    start = time.perf_counter()
    result = of()
    seconds = time.perf_counter() - start
    print(f"| {what} | {seconds:.2f} s | {show(result)} |", flush=True)
    return seconds


def agreement() -> float:
    """The slowest α on a rating scale, in seconds."""
    generator = np.random.default_rng(0)
    slowest = 0.0
    for values in (5, 100):
        quality = generator.normal(size=(UNITS, 1)) + generator.normal(size=(UNITS, EACH))
        ratings = np.clip(np.round(quality * values / 6 + values / 2), 0, values - 1).tolist()
        for scale in ("nominal", "ordinal", "interval"):
            what = f"α {scale}, {UNITS:,} × {EACH}, {values} values"
            slowest = max(
                slowest, timed(what, lambda r=ratings, s=scale: krippendorff_alpha(r, scale=s))
            )
        timed(f"Fleiss' κ, the same, {values} values", lambda r=ratings: fleiss_kappa(r))
        two = [tuple(r[:2]) for r in ratings]
        timed(
            f"Cohen's κ, quadratic, {values} values",
            lambda t=two: cohen_kappa(t, weights="quadratic"),
        )
    return slowest


def ranking() -> float:
    """The slowest Bradley-Terry fit, in seconds."""
    generator = np.random.default_rng(0)
    theta = generator.normal(size=ITEMS)
    theta -= theta.mean()
    a = generator.integers(0, ITEMS, COMPARISONS)
    b = (a + generator.integers(1, ITEMS, COMPARISONS)) % ITEMS
    weights = np.column_stack([np.exp((theta[a] - theta[b]) / 2), np.full(COMPARISONS, 0.7)])
    weights = np.column_stack([weights, 1 / weights[:, 0]])
    u = generator.random(COMPARISONS) * weights.sum(1)
    tied = np.where(u < weights[:, 0], 1.0, np.where(u < weights[:, :2].sum(1), 0.5, 0.0))
    decided = (generator.random(COMPARISONS) < 1 / (1 + np.exp(theta[b] - theta[a]))).astype(float)
    length = generator.normal(size=(COMPARISONS, 1))
    cases: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("no ties", decided, {}),
        ("no ties, style control", decided, {"covariates": length}),
        ("Davidson", tied, {"ties": "davidson"}),
        ("Rao-Kupper", tied, {"ties": "rao_kupper"}),
    )

    def inside(fit: Any) -> str:
        share = np.mean(np.abs(fit.theta_N - theta) < 1.96 * fit.se_N)
        return f"truth in {100 * share:.1f}% of the 95% intervals"

    slowest = 0.0
    for name, outcome, more in cases:
        show = (
            (lambda f: f"ν {f.tie}") if name == "Rao-Kupper" else inside
        )  # its η is not Davidson's
        what = f"Bradley-Terry, {ITEMS:,} items, {COMPARISONS:,} comparisons, {name}"
        seconds = timed(
            what, lambda y=outcome, m=more: bradley_terry(a, b, y, items=ITEMS, **m), show
        )
        slowest = max(slowest, seconds)
    return slowest


def skills() -> None:
    generator = np.random.default_rng(0)
    pairs, raters = 40_000, 20
    pair, rater = np.repeat(np.arange(pairs), 5), generator.integers(0, raters, pairs * 5)
    m, side = generator.normal(size=pairs), generator.choice([-1, 1], pairs * 5)
    value = (generator.random(pairs * 5) < 1 / (1 + np.exp(-2 * m[pair]))).astype(float)
    timed(
        f"raters' skill and bias, {pairs * 5:,} votes by {raters}",
        lambda: rater_skills(
            pair, rater, value, side=side, longer=np.zeros(pairs * 5), pairs=pairs, raters=raters
        ),
        lambda fit: f"a skill of 2: {fit.skill(0)}",
    )


def whole(judgments: int) -> None:
    from accord.feedback.trust.report import trust_report
    from accord.store import Store
    from tests.feedback.study import simulate

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "study.db") as store:
        simulate(store, prompts=judgments // 5)
        timed(
            f"the whole report, {judgments:,} judgments",
            lambda: trust_report(store.freeze("v1")),
            lambda report: report.agreement[0].alpha,
        )


def main() -> None:
    warnings.simplefilter("error")
    parser = argparse.ArgumentParser()
    parser.add_argument("--judgments", type=int, default=0)
    asked = parser.parse_args()
    print(f"{alone()}\n\n| what | time | found |\n|---|---|---|")
    alpha, fit = agreement(), ranking()
    skills()
    if asked.judgments:
        whole(asked.judgments)
    sys.exit(int(alpha > ALPHA_LIMIT or fit > RANKING_LIMIT))


if __name__ == "__main__":
    main()
