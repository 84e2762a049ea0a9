"""Bradley-Terry and Elo: closed forms of two items, `choix` for many, and what has no maximum says so."""

from __future__ import annotations

import math
from typing import Any

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import t as student

from accord.core.errors import DataError
from accord.stats import spread
from accord.stats.elo import elo, play
from accord.stats.outcomes import OUTCOMES
from accord.stats.ranking import Strengths, bradley_terry


def two(win: int, loss: int, tie: int = 0, **more: Any) -> Strengths:
    """Item 0 against item 1, so often."""
    outcome = [1.0] * win + [0.0] * loss + [0.5] * tie
    n = len(outcome)
    return bradley_terry([0] * n, [1] * n, outcome, items=2, **more)


def drawn(items: int, n: int, seed: int = 0, ties: float = 0.0) -> tuple[Any, ...]:
    """True strengths, and comparisons of random pairs (Davidson's with ties)."""
    generator = np.random.default_rng(seed)
    theta = generator.normal(size=items)
    theta -= theta.mean()
    a = generator.integers(0, items, n)
    b = (a + generator.integers(1, items, n)) % items
    weights = np.column_stack(
        [np.exp((theta[a] - theta[b]) / 2), np.full(n, ties), np.exp((theta[b] - theta[a]) / 2)]
    )
    u = generator.random(n) * weights.sum(1)
    outcome = np.where(u < weights[:, 0], 1.0, np.where(u < weights[:, :2].sum(1), 0.5, 0.0))
    return theta, a, b, outcome


def test_two_items_have_a_closed_form() -> None:
    apart = two(30, 10).difference(0, 1)  # log odds, variance 1/wins + 1/losses
    assert apart.value == pytest.approx(math.log(3))
    half = 1.959964 * math.sqrt(1 / 30 + 1 / 10)
    assert (apart.low, apart.high) == pytest.approx((math.log(3) - half, math.log(3) + half))
    first, second = two(30, 10).strengths()  # half of it each, around their mean
    assert (first.value, second.value) == pytest.approx((math.log(3) / 2, -math.log(3) / 2))
    assert first.high - first.low == pytest.approx(half)  # type: ignore[operator]
    assert (first.n, second.n) == (40, 40)


def test_a_tie_is_half_a_win_unless_it_has_a_model() -> None:
    assert two(25, 5, 10).difference(0, 1).value == pytest.approx(math.log(30 / 10))


def test_davidson_with_two_items_has_a_closed_form() -> None:
    got = two(30, 12, 18, ties="davidson")  # saturated: odds of wins, ν = ties / √(wins·losses)
    assert got.difference(0, 1).value == pytest.approx(math.log(30 / 12))
    assert got.tie.value == pytest.approx(18 / math.sqrt(30 * 12))
    half = 1.959964 * math.sqrt(1 / 30 + 1 / 12)  # of a log odds in a multinomial
    assert got.difference(0, 1).high == pytest.approx(math.log(30 / 12) + half, rel=1e-6)
    se = math.sqrt(1 / 18 + 1 / (4 * 30) + 1 / (4 * 12))  # of log ν by the delta method
    assert got.tie.high == pytest.approx(got.tie.value * math.exp(1.959964 * se), rel=1e-6)  # type: ignore[operator]


def test_rao_kupper_with_two_items_has_a_closed_form() -> None:
    got = two(30, 12, 18, ties="rao_kupper")  # η - κ = logit(30/60), -η - κ = logit(12/60)
    assert got.difference(0, 1).value == pytest.approx((logit(0.5) - logit(0.2)) / 2)
    assert got.tie.value == pytest.approx(-(logit(0.5) + logit(0.2)) / 2)


@pytest.mark.parametrize("ties", OUTCOMES)
@given(eta=st.floats(-4, 4), tau=st.floats(0.1, 2), counts=st.tuples(*[st.floats(0.5, 9)] * 3))
@settings(deadline=None, max_examples=40)
def test_slopes_and_curvatures_are_finite_differences(
    ties: Any, eta: float, tau: float, counts: tuple[float, ...]
) -> None:
    def at(e: float, t: float) -> Any:
        win, loss, tie = (np.array([c]) for c in counts)
        return [float(x[0]) for x in OUTCOMES[ties](np.array([e]), t, win, loss, tie)]

    h, got = 1e-5, at(eta, tau)
    up, down, more, less = at(eta + h, tau), at(eta - h, tau), at(eta, tau + h), at(eta, tau - h)
    close = {"rel": 1e-4, "abs": 1e-5}
    assert got[1] == pytest.approx((up[0] - down[0]) / (2 * h), **close)
    assert got[2] == pytest.approx((more[0] - less[0]) / (2 * h), **close)
    assert got[3] == pytest.approx(-(up[1] - down[1]) / (2 * h), **close)
    assert got[4] == pytest.approx(-(more[1] - less[1]) / (2 * h), **close)
    assert got[5] == pytest.approx(-(more[2] - less[2]) / (2 * h), **close)


@pytest.mark.parametrize("ties", ["davidson", "rao_kupper"])
def test_the_three_ends_of_a_comparison_are_certain_together(ties: Any) -> None:
    for eta in (-3.0, 0.0, 0.7):
        ends = np.eye(3)
        ll = [float(OUTCOMES[ties](np.array([eta]), 0.4, *row[:, None]).ll[0]) for row in ends]
        assert sum(map(math.exp, ll)) == pytest.approx(1.0)


def test_many_items_are_as_choix_has_them() -> None:
    _, a, b, outcome = drawn(30, 3000)
    ours = bradley_terry(a, b, outcome, items=30).theta_N
    data = [
        (int(i), int(j)) if y else (int(j), int(i)) for i, j, y in zip(a, b, outcome, strict=True)
    ]
    assert ours == pytest.approx(choix.mm_pairwise(30, data), abs=1e-5)
    with_prior = bradley_terry(a, b, outcome, items=30, ridge=2.0).theta_N
    assert with_prior == pytest.approx(
        choix.opt_pairwise(30, data, alpha=1.0), abs=1e-3
    )  # its α is half


@pytest.mark.parametrize("ties", ["half", "davidson", "rao_kupper"])
def test_the_likelihood_is_highest_there(ties: Any) -> None:
    _, a, b, outcome = drawn(6, 300, ties=0.5)
    fit = bradley_terry(a, b, outcome, items=6, ties=ties)
    generator = np.random.default_rng(1)
    win, loss, tie = ((outcome == v).astype(float) for v in (1.0, 0.0, 0.5))
    log_tie = fit.tie.value or 1.0
    tau = math.log(log_tie) if ties == "davidson" else log_tie

    def value(theta: Any, at: float) -> float:
        return float(OUTCOMES[ties](theta[a] - theta[b], at, win, loss, tie).ll.sum())

    best = value(fit.theta_N, tau)
    assert best == pytest.approx(fit.log_likelihood)
    for _ in range(20):
        moved = fit.theta_N + generator.normal(size=6) * 0.05
        assert value(moved, tau * (1 + 0.05 * generator.normal())) < best


def test_strengths_are_within_their_intervals() -> None:
    inside = []
    for seed in range(40):
        theta, a, b, outcome = drawn(8, 600, seed, ties=0.6)
        fit = bradley_terry(a, b, outcome, items=8, ties="davidson")
        inside += [m.low <= t <= m.high for m, t in zip(fit.strengths(), theta, strict=True)]  # type: ignore[operator]
        assert fit.tie.low is not None
    assert 0.91 <= np.mean(inside) <= 0.98  # of 320, se 0.012


def test_style_control_has_a_closed_form() -> None:
    # item 0 against 1: 30 of 40 when equally long, 12 of 40 when the other is longer by 2
    length = [0.0] * 40 + [-2.0] * 40
    outcome = [1.0] * 30 + [0.0] * 10 + [1.0] * 12 + [0.0] * 28
    got = bradley_terry([0] * 80, [1] * 80, outcome, items=2, covariates=np.array(length)[:, None])
    (beta,) = got.covariates()
    assert got.difference(0, 1).value == pytest.approx(logit(0.75))
    assert beta.value == pytest.approx((logit(0.75) - logit(0.3)) / 2)
    se = math.sqrt(1 / 30 + 1 / 10 + 1 / 12 + 1 / 28) / 2
    assert beta.high - beta.value == pytest.approx(1.959964 * se, rel=1e-5)  # type: ignore[operator]


def test_a_covariate_that_is_a_property_of_the_items_is_undefined() -> None:
    got = bradley_terry([0] * 9, [1] * 9, [1] * 6 + [0] * 3, items=2, covariates=np.ones((9, 1)))
    assert got.covariates()[0].value is None
    assert "can't be told" in got.strengths()[0].note


def test_a_covariate_that_separates_says_so() -> None:
    x = np.array([[1.0], [-1.0]] * 20)
    outcome = [1.0, 0.0] * 20
    got = bradley_terry([0] * 40, [1] * 40, outcome, items=2, covariates=x)
    assert any("separates" in note for note in got.notes)


def test_a_cluster_counts_once() -> None:
    outcome = [1.0] * 30 + [0.0] * 10
    clusters = list(range(40)) * 5  # each comparison said five times over
    got = bradley_terry([0] * 200, [1] * 200, outcome * 5, items=2, clusters=clusters)
    t = float(student.ppf(0.975, 39))  # the jackknife of 40 clusters (CR3)
    half = t * math.sqrt((1 / 30 + 1 / 10) * 40 / 39)
    assert got.difference(0, 1).high == pytest.approx(math.log(3) + half, rel=1e-6)


def test_what_has_no_finite_strength_says_why() -> None:
    chain = bradley_terry([0, 1], [1, 2], [1, 1], items=4)  # 0 beat 1, 1 beat 2, 3 was never there
    assert [m.value for m in chain.strengths()] == [None] * 4
    assert [m.note.split(":")[0] for m in chain.strengths()] == [
        "won every comparison", "separated", "lost every comparison", "never compared",
    ]  # fmt: skip
    assert "4 of 4 items have no finite strength; add ridge" in chain.notes
    assert bradley_terry([], [], [], items=1).strengths()[0].note == "never compared"


def test_parts_that_never_met_are_kept_apart() -> None:
    a, b = [0, 0, 2, 2, 2], [1, 1, 3, 3, 3]
    got = bradley_terry(a, b, [1, 0, 1, 1, 0], items=4)
    assert got.component_N.tolist() == [0, 0, 1, 1]
    assert got.theta_N == pytest.approx([0, 0, math.log(2) / 2, -math.log(2) / 2])
    assert got.difference(0, 2).note == "no chain of comparisons joins the two"
    assert got.notes == ("2 sets of items are comparable only within themselves",)
    joined = bradley_terry([*a, 1], [*b, 2], [1, 0, 1, 1, 0, 1], items=4)  # one way only
    assert joined.theta_N == pytest.approx(got.theta_N)
    assert "1 comparisons between sets tell only which set is better" in joined.notes


@given(ridge=st.floats(0.05, 5), wins=st.integers(1, 30))
@settings(deadline=None, max_examples=30)
def test_a_prior_makes_all_finite(ridge: float, wins: int) -> None:
    high, low = two(wins, 0, ridge=ridge).theta_N  # slope: wins·σ(-2θ) = ridge·θ
    assert low == pytest.approx(-high)
    assert wins * expit(-2 * high) == pytest.approx(ridge * high, rel=1e-6)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=15)
def test_names_sides_and_repeats_do_not_matter(seed: int) -> None:
    _, a, b, outcome = drawn(5, 200, seed, ties=0.4)
    x = np.random.default_rng(seed).normal(size=(200, 2))
    kinds: dict[str, Any] = {"items": 5, "ties": "davidson"}
    once = bradley_terry(a, b, outcome, covariates=x, **kinds)
    turned = bradley_terry(b, a, 1 - outcome, covariates=-x, **kinds)
    assert turned.theta_N == pytest.approx(once.theta_N, abs=1e-7)
    names = np.random.default_rng(seed).permutation(5)
    renamed = bradley_terry(names[a], names[b], outcome, covariates=x, **kinds)
    assert renamed.theta_N[names] == pytest.approx(once.theta_N, abs=1e-7)
    double = bradley_terry(a, b, outcome, covariates=x, weight=np.full(200, 2.0), **kinds)
    assert double.theta_N == pytest.approx(once.theta_N, abs=1e-7)
    assert double.se_N == pytest.approx(once.se_N / math.sqrt(2), rel=1e-6)


def test_intervals_of_many_items_are_those_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    _, a, b, outcome = drawn(60, 3000, ties=0.4)
    a, b = np.concatenate([a, a + 60]), np.concatenate([b, b + 60])  # two components
    x = np.random.default_rng(0).normal(size=(6000, 1))
    kinds: dict[str, Any] = {"items": 120, "ties": "davidson", "covariates": x}
    whole = bradley_terry(a, b, np.tile(outcome, 2), **kinds)
    monkeypatch.setattr(spread, "EXACT", 100)  # each component still as a matrix
    parts = bradley_terry(a, b, np.tile(outcome, 2), **kinds)
    assert parts.covariance_NN is None
    assert parts.se_N == pytest.approx(whole.se_N, rel=1e-6)
    assert parts.beta_se_F == pytest.approx(whole.beta_se_F, rel=1e-6)
    assert (parts.tie.low, parts.tie.high) == pytest.approx((whole.tie.low, whole.tie.high))
    monkeypatch.setattr(spread, "EXACT", 50)  # none fits: random probes
    guessed = bradley_terry(a, b, np.tile(outcome, 2), **kinds)
    assert "probes" in guessed.method
    assert guessed.se_N == pytest.approx(whole.se_N, rel=0.12)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"first": [0, 1]}, "columns of 2, 1"),
        ({"second": [2]}, r"allowed: \[0, 2\)"),
        ({"outcome": [0.3]}, "allowed: 1 "),
        ({"weight": [-1.0]}, "weight"),
        ({"covariates": [[math.nan]]}, "not finite"),
    ],
)
def test_what_can_not_be_a_comparison(wrong: dict[str, Any], said: str) -> None:
    good = {"first": [0], "second": [1], "outcome": [1.0]}
    with pytest.raises(DataError, match=said):
        bradley_terry(**{**good, **wrong}, items=2)


def test_elo_by_hand() -> None:
    games = np.array([[0, 0]]), np.array([[1, 1]]), np.array([[1.0, 0.5]])
    # first 1000 each: +8; then E = 1 / (1 + 10^(-16/400)), moved 16·(1/2 - E)
    moved = 16 * (0.5 - 1 / (1 + 10 ** (-16 / 400)))
    assert play(*games, 2)[0] == pytest.approx([1008 + moved, 992 - moved])


def test_elo_finds_the_order_whatever_the_order_of_games() -> None:
    theta, a, b, outcome = drawn(5, 1500, seed=3)
    got = elo(a, b, outcome, items=6, k=8.0, orders=60)
    assert np.argsort([m.value for m in got[:5]]).tolist() == np.argsort(theta).tolist()
    assert all(m.low <= m.value <= m.high for m in got[:5])  # type: ignore[operator]
    assert sum(m.value or 0.0 for m in got[:5]) == pytest.approx(5000)
    assert got[5].note == "never compared"
    apart = (got[int(theta.argmax())].value or 0) - (got[int(theta.argmin())].value or 0)
    assert apart == pytest.approx((theta.max() - theta.min()) * 400 / math.log(10), rel=0.15)
    turned = elo(a[::-1], b[::-1], outcome[::-1], items=6, k=8.0, orders=60)
    for one, other in zip(got[:5], turned[:5], strict=True):
        assert one.value == pytest.approx(other.value, abs=8)
