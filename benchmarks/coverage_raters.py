"""Worlds of benchmarks.coverage with raters in them: their model, what is seen of them, and labels.

Legend: K prompts, units or questions of a world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.special import expit

from accord.core.types import Metric
from accord.feedback.trust.aggregate import flip_rate, majority_noise
from accord.feedback.trust.observed import _median as median_of
from accord.stats.agreement import agreement_by_difficulty, percent_agreement
from accord.stats.dawid_skene import dawid_skene
from accord.stats.intervals import cluster_mean
from accord.stats.raters import Skills, rater_skills, reliability_of

__all__ = ["RATERS"]

Draw = np.random.Generator
World = Callable[[int, Draw], Iterable[tuple[Metric, float]]]  # K -> figures and their truths
# pairs agree with probability a, 0.905 of easy and 0.58 of hard ones: E a²/E a and E a(1-a)/E(1-a)
DIFFICULTY = (0.7782, 0.6400)
MAJORITY = 0.1335  # of a million pairs


def dawid(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """Three raters on K units of three values, right in 0.9, 0.75 and 0.6."""
    right, truth = np.array([0.9, 0.75, 0.6]), draw.integers(0, 3, k)[:, None]
    wrong = (truth + draw.integers(1, 3, (k, 3))) % 3
    said = np.where(draw.random((k, 3)) < right, truth, wrong)
    unit, rater = np.divmod(np.arange(3 * k), 3)
    fit = dawid_skene(unit, rater, said.ravel(), units=k, raters=3, values=3)
    yield from zip(fit.reliability, right, strict=True)


SKILL, SIDE, LENGTH = (
    np.array(x) for x in ([3.0, 2.0, 2.0, 1.5, 1.0], [0.0, 0, 0, 1, 0], [0.0, 0, 0.8, 0, 0])
)


def voted(k: int, draw: Draw) -> tuple[Skills, np.ndarray, np.ndarray]:
    """Five raters on two pairs of each of K prompts, longer answers better by 0.4; and whether the majority
    errs on each pair."""
    longer = draw.standard_normal(2 * k)
    m = draw.standard_normal(2 * k) + 0.4 * longer
    pair, rater = np.divmod(np.arange(10 * k), 5)
    side = draw.choice([-1.0, 1.0], 10 * k)
    eta = SKILL[rater] * m[pair] + SIDE[rater] * side + LENGTH[rater] * longer[pair]
    y = (draw.random(10 * k) < expit(eta)).astype(float)
    fit = rater_skills(
        pair, rater, y, side=side, longer=longer[pair], pairs=2 * k, raters=5,
        clusters=np.repeat(np.arange(k), 2).tolist(),
    )  # fmt: skip
    return fit, (y.reshape(-1, 5).mean(1) > 0.5) != (m > 0), y.reshape(-1, 5)


def raters(kind: str) -> World:
    truths = {
        "skill": SKILL, "side": SIDE, "length": LENGTH,
        "reliability": np.array([reliability_of(s) for s in SKILL]),
    }  # fmt: skip

    def world(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
        fit, _, _ = voted(k, draw)
        if kind == "gamma":
            yield fit.gamma, 0.4
        else:
            for j, truth in enumerate(truths[kind]):
                yield getattr(fit, kind)(j), truth

    return world


def noisy(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """The majority's share of wrong labels, by the model of the raters."""
    fit, _, y = voted(k, draw)
    yield majority_noise(y.mean(1), np.repeat(np.arange(k), 2), fit, 0.95), MAJORITY


def with_others(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """A rater's agreement with two others on three values, one or two things a prompt: of each thing the
    share of the others who say the same (feedback.trust.observed)."""
    own = np.repeat(np.arange(k), draw.integers(1, 3, k))
    truth = draw.choice(3, len(own), p=[0.5, 0.3, 0.2])[:, None]
    given = np.where(draw.random((len(own), 3)) < 0.8, truth, draw.integers(0, 3, (len(own), 3)))
    same = (given[:, 1:] == given[:, :1]).mean(1)
    # both know it, or one guesses it, or two guess alike: 0.64 + 0.32/3 + 0.04/3
    yield cluster_mean(same, own.tolist(), share=True), 0.64 + 0.36 / 3


def difficulty(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    truth = draw.integers(0, 2, k)[:, None]
    right = np.where(draw.random(k) < 0.5, 0.95, 0.7)[:, None]
    x = np.where(draw.random((k, 4)) < right, truth, 1 - truth)
    found = agreement_by_difficulty(x)
    yield from zip((found["easy"], found["hard"]), DIFFICULTY, strict=True)


def medians(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    yield median_of(np.exp(draw.standard_normal(k)).tolist(), 0.95), 1.0


def errors(k: int, draw: Draw) -> Iterable[tuple[Metric, float]]:
    """ε of two raters who err in 0.15 each, from how often they agree."""
    wrong = draw.random((k, 2)) < 0.15
    yield flip_rate(percent_agreement(wrong.astype(int))), 0.15


RATERS: dict[str, World] = {
    "Dawid-Skene's reliability, 3 raters": dawid,
    "raters' skill": raters("skill"),
    "raters' reliability": raters("reliability"),
    "raters' side": raters("side"),
    "raters' length": raters("length"),
    "raters' γ": raters("gamma"),
    "noise of a majority": noisy,
    "noise of a vote": errors,
    "agreement on easy and hard units, 4 raters": difficulty,
    "median of seconds": medians,
    "a rater's agreement with others": with_others,
}
