"""How often 95% intervals hold the truth: `python -m benchmarks.coverage [runs [part of a name [K ...]]]`
writes the table of docs/math.md, section 7. Truths are known in closed form or from very many units. Where a
world has several figures of a kind, all count.

Legend: K clusters (prompts, units) of a world.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache
from itertools import combinations

import numpy as np
from scipy.special import expit

from accord.core.types import Metric
from accord.stats.agreement import cohen_kappa, krippendorff_alpha, percent_agreement
from accord.stats.benchmarks import BbqAnswer, bbq
from accord.stats.calibration import calibration_error
from accord.stats.elo import elo, play
from accord.stats.intervals import (
    cluster_mean,
    correlation,
    mean,
    paired_difference,
    proportion,
    robust_mean,
    robust_slope,
)
from accord.stats.judged import corrected_share, lean
from accord.stats.learning_curve import Point, fit_curve, power_law
from accord.stats.ranking import bradley_terry
from benchmarks.coverage_raters import RATERS

__all__ = ["WORLDS", "covered"]

SIZES = (3, 5, 10, 30, 100)
Draw = np.random.Generator
World = Callable[[int, Draw], Iterable[tuple[Metric, float]]]  # K -> figures and their truths


def _rows(k: int, draw: Draw, even: bool) -> np.ndarray:
    return np.repeat(np.arange(k), np.full(k, 4) if even else draw.integers(1, 12, k))


def means(even: bool, rho: float) -> World:
    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        own = _rows(k, draw, even)
        x = rho**0.5 * draw.standard_normal(k)[own] + (1 - rho) ** 0.5 * draw.standard_normal(
            len(own)
        )
        yield cluster_mean(x, own), 0.0

    return world


def shares(p: float, rho: float, even: bool) -> World:
    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        own = _rows(k, draw, even)
        at = np.full(k, p) if rho == 0 else draw.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), k)
        yield cluster_mean((draw.random(len(own)) < at[own]).astype(float), own), p

    return world


def trials(p: float) -> World:
    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        yield proportion(int(draw.binomial(k, p)), k), p

    return world


def plain(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    yield mean(draw.standard_normal(k).tolist()), 0.0


def paired(p: float, gain: float) -> World:
    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        u = draw.random(k)  # the same prompts: who succeeds before mostly does after
        before = u < p
        after = np.where(draw.random(k) < 0.2, draw.random(k) < p + gain, u < p + gain)
        yield paired_difference(after.astype(float).tolist(), before.astype(float).tolist()), gain

    return world


def brief(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Four of five answers score 1, the others anything below: as brevity does."""
    values = np.where(draw.random(k) < 0.8, 1.0, draw.random(k))
    yield cluster_mean(values, range(k), share=True), 0.9


def few_rise(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Scores in [0, 1], one in ten of which rises by a half."""
    before = draw.random(k) * 0.5
    after = before + 0.5 * (draw.random(k) < 0.1)
    yield paired_difference(after.tolist(), before.tolist(), bounded=True), 0.05


def half_rise(p: float) -> World:
    """Scores near 0, of which a share p rises to near 1 and the others move a little."""

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        before, after = 0.1 * draw.random((2, k))
        after = after + 0.9 * (draw.random(k) < p)
        yield paired_difference(after.tolist(), before.tolist(), bounded=True), 0.9 * p

    return world


def in_clusters(p: float) -> World:
    """The same with two to four prompts of a kind, which rise together or not."""

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        own = np.repeat(np.arange(k), draw.integers(2, 5, k))
        rise = draw.beta(p, 1 - p, k)[own]
        before, after = 0.1 * draw.random((2, len(own)))
        after = after + 0.9 * (draw.random(len(own)) < rise)
        sides = after.tolist(), before.tolist()
        yield paired_difference(*sides, bounded=True, clusters=own.tolist()), 0.9 * p

    return world


def stereotypes(named: float, biased: float) -> World:
    """Ambiguous questions: a share is answered with a person, of these a share with the stereotype's."""

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        ways = np.where(draw.random(k) < named, draw.random(k) < biased, 2).tolist()
        answers = [BbqAnswer(True, way == 2, None if way == 2 else way == 1) for way in ways]
        yield bbq(answers)["s_amb"], named * (2 * biased - 1)

    return world


def judged(p: float, right: float) -> World:
    """A judge's win rate of K comparisons, its errors known by as many that people judged too."""

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        wins = int(draw.binomial(k, p))
        if 0 < wins < k:
            says = int(draw.binomial(k, p * right + (1 - p) * (1 - right)))
            knows = int(draw.binomial(wins, right)), int(draw.binomial(k - wins, right))
            yield corrected_share(says, k, knows[0], wins, knows[1], k - wins), p

    return world


def leaning(toward: float, away: float) -> World:
    """How far a judge is drawn to a feature, one to three comparisons a prompt."""

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        own = np.repeat(np.arange(k), draw.integers(1, 4, k))
        deserved = draw.random(len(own)) < 0.5
        drawn = draw.random(len(own)) < np.where(deserved, 1 - away, toward)
        if deserved.any() and not deserved.all():
            yield lean(drawn.astype(float).tolist(), deserved.tolist(), own.tolist()), toward - away

    return world


def slopes(p: float) -> World:
    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        own = _rows(k, draw, False)
        x = (draw.random(len(own)) < 0.4).astype(float)
        at = draw.beta(p * 4, (1 - p) * 4, k)
        y = (draw.random(len(own)) < at[own]).astype(float)
        yield robust_slope(y, x, own), 0.0

    return world


def agreement(raters: int, right: float) -> World:
    def units(n: int, draw: Draw) -> np.ndarray:
        truth = draw.choice(3, n, p=[0.5, 0.3, 0.2])[:, None]
        return np.where(draw.random((n, raters)) < right, truth, draw.integers(0, 3, (n, raters)))

    def figures(said: np.ndarray) -> list[Metric]:
        found = [
            percent_agreement(said),
            krippendorff_alpha(said),
            krippendorff_alpha(said, scale="ordinal"),
        ]
        return found + ([cohen_kappa(said.tolist())] if raters == 2 else [])

    @cache
    def truths() -> list[float]:
        return [float(m.value or 0.0) for m in figures(units(300_000, np.random.default_rng(0)))]

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        return zip(figures(units(k, draw)), truths(), strict=True)

    return world


def strengths(prior: bool, apart: bool) -> World:
    """Four sources of strengths N(0, 1), four comparisons a prompt; `apart`: 0 and 1 never meet 2 and 3."""
    pairs = [(0, 1), (2, 3)] if apart else list(combinations(range(4), 2))

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        theta = draw.standard_normal(4)
        theta -= theta.mean()
        at = np.array(pairs)[draw.integers(0, len(pairs), 4 * k)]
        y = (draw.random(4 * k) < expit(theta[at[:, 0]] - theta[at[:, 1]])).astype(float)
        own = np.repeat(np.arange(k), 4).tolist()
        fit = bradley_terry(*at.T, y, items=4, clusters=own, ridge=1 / 9 if prior else 0.0)
        yield from zip(fit.strengths(), theta, strict=True)
        yield from ((fit.difference(i, j), theta[i] - theta[j]) for i, j in pairs)

    return world


def correlations(skewed: bool) -> World:
    rho = 0.6
    truth = (np.exp(rho) - 1) / (np.e - 1) if skewed else rho

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        x = draw.standard_normal(k)
        y = rho * x + (1 - rho**2) ** 0.5 * draw.standard_normal(k)
        yield correlation(*(np.exp((x, y)) if skewed else (x, y))), truth  # type: ignore[arg-type]

    return world


def calibrations(confident: float) -> World:
    """Log odds `confident` times what they should be; the truth is the same bins of 400,000 rows."""

    def rows(n: int, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        logit = 1.5 * draw.standard_normal(n)
        return expit(logit), expit(logit / confident)

    @cache
    def truth() -> float:
        p, true = rows(400_000, np.random.default_rng(0))
        return float(np.abs(np.bincount((p * 8).astype(int), p - true)).sum() / len(p))

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        p, true = rows(k, draw)
        y = (draw.random(k) < true).astype(float)
        found = calibration_error(p.tolist(), y.tolist(), range(k))
        yield found, truth() if confident != 1 else 0.0

    return world


def hanging(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Three sources with prompts that lean one's way, all six comparisons of a prompt: θ is what a long run
    of prompts comes to."""
    own = np.repeat(np.arange(k), 6)
    at = np.tile(np.array(list(combinations(range(3), 2)) * 2), (k, 1))
    lean = draw.standard_normal((k, 3))
    p = expit(lean[own, at[:, 0]] - lean[own, at[:, 1]])
    fit = bradley_terry(*at.T, draw.random(6 * k) < p, items=3, clusters=own.tolist())
    yield from ((m, 0.0) for m in fit.strengths())


def styled(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """A covariate of 0.8 logits and Davidson's ties, ν = 0.5, eight comparisons a prompt."""
    theta = np.array([0.5, 0.0, -0.5])
    at = np.array(list(combinations(range(3), 2)))[draw.integers(0, 3, 8 * k)]
    x = draw.standard_normal(8 * k)
    eta = theta[at[:, 0]] - theta[at[:, 1]] + 0.8 * x
    weights = np.column_stack([np.exp(-eta / 2), np.full(8 * k, 0.5), np.exp(eta / 2)])
    chance = np.cumsum(weights / weights.sum(1, keepdims=True), 1)
    y = (draw.random(8 * k)[:, None] > chance[:, :2]).sum(1) / 2
    fit = bradley_terry(
        *at.T, y, items=3, covariates=x[:, None], ties="davidson",
        clusters=np.repeat(np.arange(k), 8).tolist(),
    )  # fmt: skip
    yield from zip(fit.covariates(), [0.8], strict=True)
    yield fit.tie, 0.5


def wins(p: float, ties: float) -> World:
    """Win rates with ties of half a win, one to five comparisons a prompt; truth p."""

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        own = np.repeat(np.arange(k), draw.integers(1, 6, k))
        at = draw.beta(p * 4, (1 - p) * 4, k)[own]
        tie, u = draw.random(len(own)) < ties, draw.random((2, len(own)))
        y = np.where(tie, (u < at).mean(0), u[0] < at)  # a tie where two halves disagree
        yield robust_mean(y, own, share=True), p

    return world


def curves(more: str) -> World:
    """Five sizes; the accuracy at twice the largest, and what they buy."""
    sizes, law = (50, 100, 200, 400, 800), (0.85, 0.7, 0.4)

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        true = power_law(np.array([*sizes, 1600.0]), *law)
        of = 10 * k
        seen = [Point(n, draw.binomial(of, t) / of, of) for n, t in zip(sizes, true, strict=False)]
        curve = fit_curve(seen, seed=int(draw.integers(1 << 30)))
        yield (curve.at(1600), true[-1]) if more == "at" else (curve.buys(800), true[-1] - true[-2])

    return world


def ratings(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Elo against what it comes to on average over worlds of the same strengths and as many games."""
    theta = np.array([1.0, 0.0, -1.0])
    at = np.array(list(combinations(range(3), 2)))[draw.integers(0, 3, 4 * k)]
    p = expit(theta[at[:, 0]] - theta[at[:, 1]])
    orders = np.array([draw.permutation(4 * k) for _ in range(100)])
    expected = play(at[orders, 0], at[orders, 1], p[orders], 3, k=8.0).mean(0)
    y = (draw.random(4 * k) < p).astype(float)
    yield from zip(elo(*at.T, y, items=3, k=8.0, orders=200), expected, strict=True)


def sides(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """What a rater is asked about who favours no side: 1 less this row is how often he is flagged."""
    own = _rows(k, draw, even=False)
    p = np.clip(0.5 + 0.2 * draw.standard_normal(k), 0.0, 1.0)
    left = (draw.random(len(own)) < p[own]).astype(float)
    yield robust_mean(left, own), 0.5


WORLDS: dict[str, World] = {
    "mean": plain,
    "mean by clusters of 4, ρ 0": means(True, 0.0),
    "mean by clusters of 4, ρ 0.5": means(True, 0.5),
    "mean by clusters of 1 to 11, ρ 0.3": means(False, 0.3),
    "share, p 0.02": trials(0.02),
    "share, p 0.95": trials(0.95),
    "share, p 0.5": trials(0.5),
    "share by clusters of 4, p 0.05, ρ 0": shares(0.05, 0.0, True),
    "share by clusters of 4, p 0.5, ρ 0.2": shares(0.5, 0.2, True),
    "share by clusters of 1 to 11, p 0.95, ρ 0.2": shares(0.95, 0.2, False),
    "share by clusters of 1 to 11, p 0.3, ρ 0.2": shares(0.3, 0.2, False),
    "paired difference of shares, 0.5 and 0.6": paired(0.5, 0.1),
    "paired difference of shares, 0.95 and 0.95": paired(0.95, 0.0),
    "mean of values in [0, 1], most of them 1": brief,
    "paired difference of values in [0, 1], few change": few_rise,
    "paired difference of values in [0, 1], half rise far": half_rise(0.5),
    "paired difference of values in [0, 1], a fifth rises far": half_rise(0.2),
    "paired difference of values in [0, 1], by clusters": in_clusters(0.5),
    "bias score of ambiguous questions": stereotypes(0.3, 0.9),
    "win rate of a judge, corrected": judged(0.7, 0.85),
    "lean of a judge": leaning(0.1, 0.3),
    "difference of shares by clusters, p 0.5": slopes(0.5),
    "difference of shares by clusters, p 0.95": slopes(0.95),
    "correlation of normal values": correlations(False),
    "correlation of log-normal values": correlations(True),
    "calibration error, calibrated": calibrations(1.0),
    "calibration error, twice too confident": calibrations(2.0),
    "agreement, α and κ of 2 raters, 0.9 right": agreement(2, 0.9),
    "agreement and α of 3 raters, 0.7 right": agreement(3, 0.7),
    "strengths and differences": strengths(False, False),
    "strengths and differences, prior": strengths(True, False),
    "strengths in two groups, prior": strengths(True, True),
    "strengths, prompts that lean": hanging,
    "covariate and ties of strengths": styled,
    "Elo": ratings,
    "win rate, ties, p 0.5": wins(0.5, 0.3),
    "win rate, ties, p 0.95": wins(0.95, 0.3),
    "learning curve, at twice the data": curves("at"),
    "learning curve, what they buy": curves("buys"),
    "a rater's share of left, by prompts": sides,
    **RATERS,
}


def covered(world: World, k: int, runs: int, seed: int = 0) -> tuple[float, int]:
    """Share of intervals that hold the truth, and how many there were."""
    held = n = 0
    for run in range(runs):
        for metric, truth in world(k, np.random.default_rng([seed, k, run])):
            if metric.low is not None and metric.high is not None:
                n += 1
                held += metric.low <= truth <= metric.high
    return (held / n if n else float("nan")), n


def main() -> None:
    runs, part, *sizes = [*sys.argv[1:], *("500", "")[len(sys.argv) - 1 :]]
    columns = [int(k) for k in sizes] or SIZES
    print("| interval | " + " | ".join(f"K = {k}" for k in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, world in WORLDS.items():
        if part in name:
            found = [covered(world, k, int(runs)) for k in columns]
            cells = [f"{share:.3f}" if n else "–" for share, n in found]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
