"""Raters: likelihoods that only climb, closed forms, and simulated raters found within their intervals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import expit

from accord.core.errors import DataError
from accord.stats import votes as likelihood
from accord.stats.dawid_skene import dawid_skene
from accord.stats.raters import rater_skills, reliability_of
from benchmarks.coverage import covered
from benchmarks.coverage_raters import RATERS as BENCH

SKILL = np.array([3.0, 2.0, 2.0, 1.5, 1.0])
SIDE = np.array([0.0, 0.0, 0.0, 1.0, 0.0])
LENGTH = np.array([0.0, 0.0, 0.8, 0.0, 0.0])


def votes(seed: int, pairs: int = 300, gamma: float = 0.0, **of: Any) -> dict[str, Any]:
    """Five raters on every pair, sides at random."""
    skill, side, length = (
        of.get(k, v) for k, v in (("skill", SKILL), ("side", SIDE), ("length", LENGTH))
    )
    generator, j = np.random.default_rng(seed), len(SKILL)
    longer = generator.normal(size=pairs)
    m = generator.normal(size=pairs) + gamma * longer
    pair, rater = np.repeat(np.arange(pairs), j), np.tile(np.arange(j), pairs)
    shown = generator.choice([-1, 1], pairs * j)
    eta = skill[rater] * m[pair] + side[rater] * shown + length[rater] * longer[pair]
    value = (generator.random(pairs * j) < expit(eta)).astype(float)
    return {
        "pair": pair, "rater": rater, "value": value, "side": shown, "longer": longer[pair],
        "pairs": pairs, "raters": j,
    }  # fmt: skip


def test_simulated_raters_are_within_their_intervals() -> None:
    """Of 40 at 95%: 33 or more with probability 0.9998 in each of 20 cells."""
    inside = np.zeros((5, 4))
    for seed in range(40):
        fit = rater_skills(**votes(seed))
        for j in range(5):
            for kind, (metric, truth) in enumerate(
                (
                    (fit.skill(j), SKILL[j]),
                    (fit.reliability(j), reliability_of(SKILL[j])),
                    (fit.side(j), SIDE[j]),
                    (fit.length(j), LENGTH[j]),
                )
            ):
                assert metric.low is not None
                assert metric.high is not None
                inside[j, kind] += metric.low <= truth <= metric.high
    assert inside.min() >= 33, inside
    assert inside.mean() >= 0.93 * 40


def test_a_length_that_is_quality_is_no_raters_bias() -> None:
    inside, found = np.zeros(5), []
    for seed in range(15):
        fit = rater_skills(
            **votes(seed, gamma=0.6)
        )  # longer answers are better, and rater 2 likes them more
        lengths = [fit.length(j) for j in range(5)]
        inside += [m.low <= t <= m.high for m, t in zip(lengths, LENGTH, strict=True)]  # type: ignore[operator]
        found.append(fit.gamma.value)
    assert inside.min() >= 11  # of 15 at 95%: 11 or more with probability 0.9999
    assert np.mean(found) == pytest.approx(0.6, abs=0.1)


def test_a_posterior_is_as_sure_as_it_is_right() -> None:
    generator = np.random.default_rng(5)
    m = generator.normal(size=4000)
    pair, rater = np.repeat(np.arange(4000), 5), np.tile(np.arange(5), 4000)
    value = (generator.random(20_000) < expit(SKILL[rater] * m[pair])).astype(float)
    zero = np.zeros(20_000)
    fit = rater_skills(pair, rater, value, side=zero, longer=zero, pairs=4000, raters=5)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 1.0)):
        there = (fit.better_P >= low) & (fit.better_P <= high)
        sure, right = fit.better_P[there].mean(), (m[there] > 0).mean()
        assert right == pytest.approx(sure, abs=4 * math.sqrt(0.25 / there.sum()))


def test_one_vote_has_a_closed_form() -> None:
    # P(m > 0 | a win) = 2 ∫_0^∞ σ(s·m) φ(m) dm = reliability(s): with one vote they are the same number
    fit = rater_skills([0], [0], [1.0], side=[0], longer=[0.0], pairs=2, raters=1)
    skill = float(fit.values_J3[0, 0])
    area = integrate.quad(lambda m: 2 * expit(skill * m) * stats.norm.pdf(m), 0, 12)[0]
    assert fit.better_P[0] == pytest.approx(area, abs=5e-3)  # the grid's step
    assert fit.better_P[0] == pytest.approx(reliability_of(skill, fit.mass_G))
    assert math.isnan(fit.better_P[1])


def test_what_only_a_prior_says_is_undefined() -> None:
    data = votes(0)
    once = data["rater"] == data["pair"] % 5  # every pair judged by one of five
    alone = {k: v[once] if isinstance(v, np.ndarray) else v for k, v in data.items()}
    fit = rater_skills(**alone)
    for metric in (fit.skill(3), fit.reliability(3), fit.length(3)):
        assert (metric.value, metric.note) == (None, "nothing was judged twice")
    assert fit.side(3).value is not None  # sides were drawn, so they can be told, if widely
    two = {k: v[data["rater"] < 2] if isinstance(v, np.ndarray) else v for k, v in data.items()}
    few = rater_skills(**two)
    assert few.length(0).value is None
    assert "can't be told from quality" in few.length(0).note
    assert few.notes == ("fewer than 3 raters: skills rest on a prior",)
    assert few.skill(0).value is not None


def test_reliability_of_no_skill_and_of_all() -> None:
    assert reliability_of(0.0) == pytest.approx(0.5)
    assert reliability_of(1e6) == pytest.approx(1.0, abs=0.07)  # the node at m = 0 is a coin
    assert reliability_of(1.0) == pytest.approx(
        integrate.quad(lambda m: 2 * expit(m) * stats.norm.pdf(m), 0, 12)[0], abs=3e-3
    )


def test_slopes_are_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "CHUNK", 7)  # several chunks
    data = votes(1, pairs=12)
    made = likelihood.Votes(
        np.arange(0, 60, 5),
        data["rater"],
        data["value"],
        data["side"].astype(float),
        data["longer"],
        likelihood.NORMAL_G,
    )
    x = np.random.default_rng(2).normal(1, 0.5, size=15)
    value, slope = likelihood.loss(x.reshape(-1, 3), made)
    for i in range(15):
        step = np.eye(15)[i] * 1e-5
        up, down = (likelihood.loss((x + d).reshape(-1, 3), made)[0] for d in (step, -step))
        assert slope[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-6)
    monkeypatch.setattr(likelihood, "CHUNK", 1000)
    assert likelihood.loss(x.reshape(-1, 3), made)[0] == pytest.approx(value)


def test_the_slope_of_what_votes_mean_is_by_finite_differences() -> None:
    data = votes(1, pairs=12)
    made = likelihood.Votes(
        np.arange(0, 60, 5), data["rater"], data["value"], data["side"].astype(float),
        data["longer"], likelihood.NORMAL_G,
    )  # fmt: skip
    x, weight = np.random.default_rng(2).normal(1, 0.5, size=(5, 3)), np.linspace(-1, 1, 12)

    def total(by: np.ndarray) -> float:
        joint = likelihood.likelihoods(x + by[:15].reshape(5, 3), made) * made.mass_G
        return float(weight @ likelihood.better(joint, (0.3 + by[15]) * made.longer_R[::5]))

    slope = [(total(d) - total(-d)) / 2e-5 for d in np.eye(16) * 1e-5]
    got = likelihood.better_slope(x, 0.3, weight, made)
    assert np.append(*got) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_a_majoritys_noise_is_held_where_raters_are_hardly_known() -> None:
    """With the raters' fit taken as known it held 0.6, with its error and γ as known 0.65."""
    share, n = covered(BENCH["noise of a majority"], 30, 40, seed=4)
    assert n == 40
    assert share > 0.84  # of 40 at 95% 34 or more with probability 0.997


def test_a_taste_is_a_mean_over_raters() -> None:
    """t with 4 degrees of freedom for five raters: by normal quantiles it held 0.86."""
    halves = []
    for level in (0.95, 0.5):
        gamma = rater_skills(**votes(3, gamma=0.4), level=level).gamma
        assert gamma.high is not None
        assert gamma.value is not None
        halves.append(gamma.high - gamma.value)
    assert halves[0] / halves[1] == pytest.approx(stats.t.ppf(0.975, 4) / stats.t.ppf(0.75, 4))


def test_orientation_does_not_matter() -> None:
    data = votes(3)
    flip = np.random.default_rng(0).random(300) < 0.5
    turn = flip[data["pair"]]
    turned = {
        **data,
        "value": np.where(turn, 1 - data["value"], data["value"]),
        "side": np.where(turn, -data["side"], data["side"]),
        "longer": np.where(turn, -data["longer"], data["longer"]),
    }
    one, other = rater_skills(**data), rater_skills(**turned)
    assert other.values_J3 == pytest.approx(one.values_J3, abs=1e-4)
    assert np.where(flip, 1 - other.better_P, other.better_P) == pytest.approx(
        one.better_P, abs=1e-4
    )


def test_clusters_widen_what_hangs_together() -> None:
    data = votes(4, pairs=100)
    n = 100
    twice = {
        k: np.concatenate([v, v + n if k == "pair" else v]) if isinstance(v, np.ndarray) else v
        for k, v in data.items()
    } | {"pairs": 2 * n}
    alone = rater_skills(**twice)
    together = rater_skills(**twice, clusters=[*range(n), *range(n)])
    for j in range(5):
        a, b = alone.side(j), together.side(j)
        ratio = (b.high - b.low) / (a.high - a.low)  # type: ignore[operator]
        assert ratio == pytest.approx(math.sqrt(2), rel=0.1)  # each pair was told twice


def test_a_rater_of_no_votes_is_undefined() -> None:
    data = votes(0) | {"raters": 6}
    got = rater_skills(**data).skill(5)
    assert (got.value, got.note) == (None, "no votes")
    with pytest.raises(DataError, match="columns of 2, 1"):
        rater_skills([0, 1], [0], [1.0], side=[1], longer=[0.0], pairs=2, raters=1)


def answers(seed: int, units: int = 300, values: int = 3) -> tuple[dict[str, Any], Any, Any]:
    """Four raters right in 0.9, 0.8, 0.7 and 0.5 of units, else any other value."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, values, units)
    right = np.array([0.9, 0.8, 0.7, 0.5])
    unit, rater = np.repeat(np.arange(units), 4), np.tile(np.arange(4), units)
    wrong = (truth[unit] + generator.integers(1, values, units * 4)) % values
    value = np.where(generator.random(units * 4) < right[rater], truth[unit], wrong)
    sizes = {"units": units, "raters": 4, "values": values}
    return {"unit": unit, "rater": rater, "value": value, **sizes}, truth, right


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5]), st.integers(2, 4))
@settings(deadline=None, max_examples=25)
def test_em_never_falls(seed: int, smoothing: float, values: int) -> None:
    data, _, _ = answers(seed, units=40, values=values)
    climb = dawid_skene(**data, smoothing=smoothing, steps=60).climb
    assert all(b >= a - 1e-9 * abs(a) for a, b in itertools.pairwise(climb))
    assert climb[-1] > climb[0] or len(climb) == 1


def test_dawid_skene_finds_raters_within_their_intervals() -> None:
    inside, hits = np.zeros(4), []
    for seed in range(40):
        data, truth, right = answers(seed)
        fit = dawid_skene(**data)
        hits.append((fit.posterior_UV.argmax(1) == truth).mean())
        inside += [m.low <= r <= m.high for m, r in zip(fit.reliability, right, strict=True)]  # type: ignore[operator]
    assert inside.min() >= 33, inside
    assert np.mean(hits) > 0.9  # the best rater alone: 0.9


def test_the_best_of_three_raters_is_held_as_often_as_the_others() -> None:
    """Smoothing pulls 0.9 down by as much as its error: intervals around it held 0.80 of such."""
    held = np.zeros((60, 3))
    for seed in range(60):
        found = BENCH["Dawid-Skene's reliability, 3 raters"](30, np.random.default_rng([7, seed]))
        held[seed] = [m.low <= truth <= m.high for m, truth in found]  # type: ignore[operator]
    assert held.mean(0).min() > 0.88
    assert held.mean() > 0.93


def test_two_who_always_agree_by_hand() -> None:
    # truth is told outright: prior and confusions are the smoothed counts, 6 + s and 2 + s of 8 + 2s
    unit, rater = np.repeat(np.arange(8), 3), np.tile(np.arange(3), 8)
    value = np.repeat([0, 0, 0, 0, 0, 0, 1, 1], 3)
    fit = dawid_skene(unit, rater, value, units=8, raters=3, values=2, smoothing=0.5)
    assert fit.prior_V == pytest.approx([6.5 / 9, 2.5 / 9], abs=1e-2)
    assert fit.confusion_JVV[0] == pytest.approx(
        np.array([[6.5 / 7, 0.5 / 7], [0.5 / 3, 2.5 / 3]]), abs=2e-2
    )
    assert fit.posterior_UV.argmax(1).tolist() == [0] * 6 + [1] * 2


def test_what_dawid_skene_can_not_take() -> None:
    with pytest.raises(DataError, match="no answers"):
        dawid_skene([], [], [], units=1, raters=1, values=2)
    with pytest.raises(DataError, match="columns of 2, 1, 1"):
        dawid_skene([0, 1], [0], [0], units=2, raters=1, values=2)
    data, _, _ = answers(0)
    got = dawid_skene(**{**data, "raters": 5})
    assert got.reliability[4].note == "no answers"
