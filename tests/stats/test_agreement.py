"""Agreement: values by hand and from the textbooks, and Krippendorff's α as the `krippendorff` package has
it."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.core.errors import DataError
from accord.stats import resampling
from accord.stats.agreement import (
    agreement_by_difficulty,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    percent_agreement,
)

ANSWERS = st.lists(
    st.lists(st.none() | st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=12
)


@pytest.mark.parametrize("scale", ["nominal", "ordinal", "interval"])
@given(ANSWERS)
@settings(deadline=None, max_examples=60)
def test_alpha_is_that_of_the_package(scale: Any, table: Sequence[Sequence[int | None]]) -> None:
    units = [[None if x is None else x**2 for x in row] for row in table]  # unequal steps
    kept = {x for unit in units if sum(y is not None for y in unit) > 1 for x in unit} - {None}
    ours = krippendorff_alpha(units, scale=scale).value
    if len(kept) < 2:
        assert ours is None
        return
    data = np.array([[np.nan if x is None else float(x) for x in row] for row in units]).T
    theirs = krippendorff.alpha(reliability_data=data, level_of_measurement=scale)
    assert ours == pytest.approx(theirs, abs=1e-10)


KRIPPENDORFF_2011 = [  # his four observers and twelve units
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, None, 3, None],
]  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_the_paper(scale: Any, alpha: float) -> None:
    got = krippendorff_alpha(KRIPPENDORFF_2011, scale=scale)
    assert got.value == pytest.approx(alpha, abs=5e-4)
    assert got.n == 11


@pytest.mark.shared_data
@pytest.mark.parametrize(("scale", "alpha"), [("interval", 0.7835), ("ordinal", 0.7879)])
def test_alpha_of_real_raters(shared_data: Path, scale: Any, alpha: float) -> None:
    file = shared_data / "vader_ratings" / "tweets_anonDataRatings.txt"
    lines = file.read_text(encoding="utf-8").splitlines()
    got = krippendorff_alpha([ast.literal_eval(x.split("\t")[3]) for x in lines], scale=scale)
    assert got.value == pytest.approx(alpha, abs=5e-5)
    assert got.low is not None
    assert got.high is not None
    assert got.low < alpha < got.high


def test_percent_agreement_by_hand() -> None:
    got = percent_agreement([["a", "a", "b"], ["a", "a"], ["b"], []])  # 1/3 and 1
    assert (got.value, got.n) == (pytest.approx(2 / 3), 2)
    assert got.low is not None
    assert got.high is not None
    assert 0 <= got.low < 2 / 3 < got.high <= 1


def test_alpha_by_hand() -> None:
    # two units, [a a] and [a b]: observed 2 of 4, expected (16 - 9 - 1) / 3 = 2: alpha = 0
    assert krippendorff_alpha([["a", "a"], ["a", "b"]]).value == pytest.approx(0.0)
    assert krippendorff_alpha([["a", "a"], ["b", "b"]] * 20).value == 1.0


@pytest.mark.parametrize("of", [percent_agreement, krippendorff_alpha])
def test_what_is_undefined_says_why(of: object) -> None:
    assert callable(of)
    for units in ([], [["a"]], [["a"], ["b"]]):
        got = of(units)
        assert (got.value, got.n, got.note) == (None, 0, "nothing was judged twice")
    same = krippendorff_alpha([["a", "a"]] * 3)
    assert (same.value, same.note) == (None, "all answers are the same")


def test_the_interval_is_the_same_every_time_and_narrows() -> None:
    units = [["a", "a"], ["a", "b"], ["b", "b"], ["b", "a"], ["a", "a"]]
    small, again, large = (krippendorff_alpha(u) for u in (units, units, units * 30))
    assert small == again
    assert None not in (small.low, small.high, large.low, large.high)
    assert large.high - large.low < small.high - small.low  # type: ignore[operator]
    assert large.low <= large.value <= large.high  # type: ignore[operator]


def test_an_ordinal_scale_takes_any_words_in_their_order() -> None:
    words = {1: "worst", 2: "bad", 3: "fair", 4: "good", 5: "best"}
    said = [[words.get(x) for x in unit] for unit in KRIPPENDORFF_2011]  # type: ignore[call-overload]
    got = krippendorff_alpha(said, scale="ordinal", order=list(words.values()))
    assert got == krippendorff_alpha(KRIPPENDORFF_2011, scale="ordinal")
    with pytest.raises(DataError, match="'best' is not on the scale; allowed: worst, bad"):
        krippendorff_alpha(said, scale="ordinal", order=["worst", "bad"])
    with pytest.raises(DataError, match="needs numbers"):
        krippendorff_alpha(said, scale="interval", order=list(words.values()))
    with pytest.raises(DataError, match="no order"):
        krippendorff_alpha([[1, "a"]], scale="ordinal")


def test_what_is_missing_does_not_count() -> None:
    with_none = [["a", None, "a"], ["a", "b", math.nan], [None, "b"]]
    assert krippendorff_alpha(with_none) == krippendorff_alpha([["a", "a"], ["a", "b"]])


COHEN = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15


def test_cohens_kappa_of_the_textbook() -> None:
    got = cohen_kappa(COHEN)  # seen 35/50, by chance (25·30 + 25·20)/50² = 1/2
    assert (got.value, got.n) == (pytest.approx(0.4), 50)
    assert got.low is not None
    assert got.low < 0.4 < got.high  # type: ignore[operator]
    for weights in ("linear", "quadratic"):  # of two values there is one step
        assert cohen_kappa(COHEN, weights=weights).value == pytest.approx(0.4)


def test_weighted_kappa_by_hand() -> None:
    pairs = [(1, 1), (1, 3), (2, 2), (3, 2)]  # shares 1/2 1/4 1/4 and 1/4 1/2 1/4
    # steps: seen 3/4, by chance 1/2·(1/2 + 2/4) + 1/4·(1/4 + 1/4) + 1/4·(2/4 + 1/2) = 7/8
    assert cohen_kappa(pairs, weights="linear").value == pytest.approx(1 - (3 / 4) / (7 / 8))
    # squares: seen 5/4, by chance 1/2·(1/2 + 4/4) + 1/4·(1/4 + 1/4) + 1/4·(4/4 + 1/2) = 5/4
    assert cohen_kappa(pairs, weights="quadratic").value == pytest.approx(0.0)
    # with a value 3 that nobody used: seen 5/4 steps, by chance 1/2·(1/2 + 3/4) + 1/4·(1/4 + 2/4) + ...
    wide = [(1, 1), (1, 4), (2, 2), (4, 2)]
    got = cohen_kappa(wide, weights="linear", order=[1, 2, 3, 4]).value
    assert got == pytest.approx(1 - (5 / 4) / (5 / 8 + 3 / 16 + 7 / 16))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=20))
@settings(deadline=None, max_examples=60)
def test_weighted_kappa_is_its_definition(pairs: list[tuple[int, int]]) -> None:
    for weights, power in (("none", 0), ("linear", 1), ("quadratic", 2)):
        apart = [
            (0 if a == b else abs(a - b) ** power, 0 if a == c else abs(a - c) ** power)
            for (a, b), (_, c) in itertools.product(pairs, pairs)
        ]
        seen, chance = (sum(x) for x in zip(*apart, strict=True))
        ours = cohen_kappa(pairs, weights=weights, order=range(5)).value  # type: ignore[arg-type]
        if chance == 0:
            assert ours is None
        else:
            assert ours == pytest.approx(1 - seen / chance, abs=1e-10)


def test_fleiss_kappa_of_his_table() -> None:
    table = [  # fourteen raters, ten subjects, five values: κ = 0.210
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    units = [[v for v, n in enumerate(row) for _ in range(n)] for row in table]
    got = fleiss_kappa(units)
    assert (got.value, got.n) == (pytest.approx(0.210, abs=5e-4), 10)


def test_kappas_that_are_undefined_say_why() -> None:
    assert cohen_kappa([]).note == "nothing was judged by both"
    assert cohen_kappa([("a", None), (None, "a")]).note == "nothing was judged by both"
    assert (
        cohen_kappa([("a", "a")] * 3).note == "both raters gave one and the same answer throughout"
    )
    assert fleiss_kappa([["a", "a"]] * 3).note == "all answers are the same"
    assert fleiss_kappa([["a"]]).note == "nothing was judged twice"
    uneven = fleiss_kappa([["a", "b"], ["a", "a", "b"], ["b"]])
    assert (uneven.value, uneven.n) == (None, 2)
    assert "2 to 3 answers" in uneven.note


def test_easy_and_hard_by_hand() -> None:
    # [a a a a]: six pairs, all agree, the others always agree: easy
    # [a a b b]: the pairs a-a and b-b leave two that agree: easy, agreed; the four a-b leave a-b: hard, not
    # [a a a b]: three a-a leave a-b: hard, agreed; three a-b leave a-a: easy, not
    # [a a b c]: b-c leaves a-a: easy, not; a-a leaves b-c: hard, agreed; four more are hard and not agreed
    units = [list("aaaa"), list("aabb"), list("aaab"), list("aabc"), list("aab")]
    split = agreement_by_difficulty(units)
    assert split["easy"].value == pytest.approx((6 + 2 + 0 + 0) / (6 + 2 + 3 + 1))
    assert split["hard"].value == pytest.approx((0 + 0 + 3 + 1) / (0 + 4 + 3 + 5))
    assert split["easy"].n == 4
    assert agreement_by_difficulty([list("aaaa")] * 2)["hard"].note == "the others always agreed"
    assert agreement_by_difficulty([list("aaa")])["easy"].note == "no unit has four answers"


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=6), min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_easy_and_hard_are_their_definition(units: list[list[int]]) -> None:
    seen = {"easy": [0.0, 0.0], "hard": [0.0, 0.0]}
    for unit in units:
        for i, j in itertools.combinations(range(len(unit)), 2):
            others = {x for k, x in enumerate(unit) if k not in (i, j)}
            sums = seen["easy" if len(others) == 1 else "hard"]
            share = 1 / math.comb(len(unit), 2)
            sums[0] += share * (unit[i] == unit[j])
            sums[1] += share
    split = agreement_by_difficulty(units)
    for name, (agree, pairs) in seen.items():
        got = split[name].value  # type: ignore[index]
        assert got is None if pairs < 1e-9 else got == pytest.approx(agree / pairs)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """D the mean of values by unit, E one: leaving out each unit once gives s²/U."""
    value_K, times = np.array([0.0, 0.5, 1.0]), np.array([3, 6, 1])
    se, df = resampling._standard_error(
        times,
        lambda w: ((w @ value_K) / w.sum(1), np.ones(len(w))),
        *resampling._left_out(times, None),
    )
    every = np.repeat(value_K, times)
    assert se == pytest.approx(every.std(ddof=1) / 10**0.5)
    assert 1 <= df <= 9


@pytest.mark.parametrize("of", [percent_agreement, krippendorff_alpha, fleiss_kappa])
def test_the_order_of_units_and_answers_does_not_matter(of: Callable[..., Any]) -> None:
    units = [list("aab"), list("abb"), list("bcc"), list("aaa")] * 5
    turned = [unit[::-1] for unit in units[::-1]]
    assert of(turned).value == pytest.approx(of(units).value, abs=1e-12)


def test_units_of_their_own_are_no_clusters() -> None:
    alone = cohen_kappa(COHEN, clusters=range(len(COHEN)))
    plain = cohen_kappa(COHEN)
    assert (alone.low, alone.high) == pytest.approx((plain.low, plain.high))


def test_kappa_over_pairs_of_few_prompts_holds_the_truth() -> None:
    """20 prompts of 15 pairs: on each the judge is right as often as it is on that prompt, which differs much
    (Beta(0.7, 0.7) about 1/2 + truth/2). Both values are likely alike, so κ is 2·accuracy - 1."""
    rng = np.random.default_rng(5)
    held = {True: 0, False: 0}
    for _ in range(200):
        right_P = rng.beta(1.4, 0.6, 20)  # mean .7: κ .4
        rows = [
            (first, first if rng.random() < p else not first, at)
            for at, p in enumerate(right_P)
            for first in rng.random(15) < 0.5
        ]
        pairs = [(bool(a), bool(b)) for a, b, _ in rows]
        for together in held:
            got = cohen_kappa(pairs, clusters=[c for *_, c in rows] if together else None)
            assert got.low is not None
            assert got.high is not None
            held[together] += got.low <= 0.4 <= got.high
    assert held[True] >= 0.93 * 200
    assert held[False] < 0.8 * 200  # the control: taken for independent
