"""How often 95% intervals hold the truth: `python -m benchmarks.coverage [runs]` writes the table of
 docs/math.md, section 7. Each world's truth is known in closed form or from a million units.

Legend: K clusters (prompts, units) of a world.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
from scipy.special import expit

from accord.core.types import Metric
from accord.stats.agreement import cohen_kappa, krippendorff_alpha, percent_agreement
from accord.stats.calibration import calibration_error
from accord.stats.dawid_skene import dawid_skene
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
from accord.stats.learning_curve import Point, fit_curve, power_law
from accord.stats.ranking import bradley_terry
from accord.stats.raters import rater_skills

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

    truths = [float(m.value or 0.0) for m in figures(units(300_000, np.random.default_rng(0)))]

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        return zip(figures(units(k, draw)), truths, strict=True)

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

    p, true = rows(400_000, np.random.default_rng(0))
    truth = float(np.abs(np.bincount((p * 8).astype(int), p - true)).sum() / len(p))

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        p, true = rows(k, draw)
        y = (draw.random(k) < true).astype(float)
        found = calibration_error(p.tolist(), y.tolist(), range(k))
        yield found, truth if confident != 1 else 0.0

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


def raters(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Four raters' skill, taste for a side and for length, each on k pairs."""
    skill, side = np.array([3.0, 2.0, 1.5, 1.0]), np.array([0.0, 0.0, 1.0, 0.0])
    length = np.array([0.0, 0.8, 0.0, 0.0])
    longer, m = draw.standard_normal((2, k))
    pair, rater = np.repeat(np.arange(k), 4), np.tile(np.arange(4), k)
    shown = draw.choice([-1, 1], 4 * k)
    eta = skill[rater] * m[pair] + side[rater] * shown + length[rater] * longer[pair]
    fit = rater_skills(
        pair=pair, rater=rater, value=(draw.random(4 * k) < expit(eta)).astype(float), side=shown,
        longer=longer[pair], pairs=k, raters=4,
    )  # fmt: skip
    for j in range(4):
        yield from ((fit.skill(j), skill[j]), (fit.side(j), side[j]), (fit.length(j), length[j]))


def reliabilities(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Dawid-Skene: three raters right in 0.9, 0.8 and 0.7 of k units of three values."""
    right, truth = np.array([0.9, 0.8, 0.7]), draw.integers(0, 3, k)
    unit, rater = np.repeat(np.arange(k), 3), np.tile(np.arange(3), k)
    wrong = (truth[unit] + draw.integers(1, 3, 3 * k)) % 3
    value = np.where(draw.random(3 * k) < right[rater], truth[unit], wrong)
    fit = dawid_skene(unit, rater, value, units=k, raters=3, values=3)
    yield from zip(fit.reliability, right, strict=True)


def curves(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Accuracy on 40 k held-out comparisons after 50 to 1,600, and what 1,600 more would come to."""
    n = 50 * 2.0 ** np.arange(6)
    true = power_law(n, 0.8, 1.2, 0.45)
    shares = draw.binomial(40 * k, true) / (40 * k)
    fit = fit_curve([Point(int(a), float(s), 40 * k) for a, s in zip(n, shares, strict=True)])
    yield fit.at(3200), float(power_law(np.array([3200.0]), 0.8, 1.2, 0.45)[0])


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
    "Elo": ratings,
    "a rater's share of left, by prompts": sides,
    "skill, side and length of 4 raters": raters,
    "Dawid-Skene, 3 raters": reliabilities,
    "learning curve, twice the most tried": curves,
}

MANY = {  # several figures a world, or slow ones: a fifth of the worlds
    "strengths and differences", "strengths and differences, prior", "strengths in two groups, prior", "Elo",
    "skill, side and length of 4 raters", "Dawid-Skene, 3 raters", "learning curve, twice the most tried",
}  # fmt: skip


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
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print("| interval | " + " | ".join(f"K = {k}" for k in SIZES) + " |")
    print("|---" * (len(SIZES) + 1) + "|")
    for name, world in WORLDS.items():
        some = max(runs // 5, 10) if name in MANY else runs
        cells = [f"{covered(world, k, some)[0]:.3f}" for k in SIZES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
