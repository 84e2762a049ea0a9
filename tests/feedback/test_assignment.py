"""Which question next and when it is settled: closed forms, hand-derived values, properties."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.core.types import Preference, Ranking, Rating, StepLabels, Thumb, Writing
from accord.feedback.study import assignment as a
from accord.feedback.study.definition import Arms, Overlap


def test_an_answer_counts_for_the_response_not_for_its_side() -> None:
    assert a.categories(Preference(better=0), [0, 1]) == {"": "first"}
    assert a.categories(Preference(better=0), [1, 0]) == {"": "second"}
    assert a.categories(Preference(better=None), [1, 0]) == {"": "tie"}
    assert a.categories(Preference(better=None, both_bad=True), [1, 0]) == {"": "both bad"}
    assert a.categories(Ranking(ranks=(2, 1, 1)), [2, 0, 1]) == {"": "0+1"}
    assert a.categories(StepLabels(labels=(1, -1, -1)), [0]) == {"": "1"}
    assert a.categories(StepLabels(labels=(1, 0)), [0]) == {"": "none"}
    assert a.categories(Rating(scores={"tone": 4, "fact": 2}), [0]) == {"tone": "4", "fact": "2"}
    assert a.categories(Thumb(up=False), [0]) == {"": "down"}
    assert a.categories(Writing(text="x"), []) == {}


def test_a_correction_takes_the_old_answer_out() -> None:
    tally = a.add_to(a.add_to({}, {"": "first"}), {"": "tie"})
    assert a.add_to(a.add_to(tally, {"": "tie"}, -1), {"": "first"}) == {"": {"first": 2}}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"first": 1}, 0.75),  # Beta(2, 1): 1 - (1/2)^2
        ({"first": 2}, 0.875),  # Beta(3, 1): 1 - (1/2)^3
        ({"second": 3}, 0.9375),
        ({"first": 1, "second": 1}, 0.5),
        ({"tie": 2}, 0.875),
        ({"both bad": 3}, 0.9375),
        ({"tie": 1, "both bad": 1}, 47 / 108),  # an answer nobody gave is the likeliest with 7/54
        ({"up": 2, "down": 1}, 0.6875),  # P(Bin(4, 1/2) <= 2) = 11/16
        ({"4": 1}, 0.75),  # gammas of shapes 2 and 1: P(G2 > G1) = 3/4
    ],
)
def test_confidence_in_closed_form(counts: dict[str, int], expected: float) -> None:
    assert a.confidence(counts) == pytest.approx(expected, abs=1e-6)


def test_confidence_of_three_categories_by_simulation() -> None:
    draws = np.random.default_rng(0).dirichlet([5, 3, 2, 1], 200_000)
    simulated = (draws.argmax(1) == 0).mean()
    assert a.confidence({"5": 4, "4": 2, "3": 1}) == pytest.approx(simulated, abs=0.005)


@given(st.integers(0, 30), st.integers(0, 30))
def test_another_vote_for_the_leader_makes_surer(first: int, second: int) -> None:
    if first >= second:
        before = a.confidence({"first": first, "second": second})
        assert a.confidence({"first": first + 1, "second": second}) > before
    assert a.confidence({"first": first, "second": second}) >= 0.5 - 1e-12


def test_when_a_question_is_settled_or_disputed() -> None:
    overlap = Overlap(min=2, max=4, confidence=0.85)
    assert a.state_after({"": {"first": 1}}, 1, overlap) == "open"
    for answer in ("first", "tie", "both bad"):
        assert a.state_after({"": {answer: 2}}, 2, overlap) == "settled"
    assert a.state_after({"": {"tie": 2, "both bad": 2}}, 4, overlap) == "disputed"
    assert a.state_after({"": {"first": 1, "second": 1}}, 2, overlap) == "open"
    assert a.state_after({"": {"first": 2, "second": 2}}, 4, overlap) == "disputed"
    assert a.state_after({"": {"first": 3, "second": 1}}, 4, overlap) == "settled"
    assert a.state_after({}, 2, overlap) == "settled"  # what people wrote needs no agreement
    assert a.state_after({"": {"first": 1}}, 1, Overlap()) == "settled"
    assert a.state_after({"x": {"5": 4}, "y": {"1": 2, "5": 2}}, 4, overlap) == "disputed"


def test_gold_a_rating_may_be_a_point_off_a_choice_may_not() -> None:
    assert a.agrees({"": "first"}, {"": "first"})
    assert not a.agrees({"": "tie"}, {"": "first"})
    assert a.agrees({"tone": "4"}, {"tone": "5"})
    assert not a.agrees({"tone": "3"}, {"tone": "5"})
    assert not a.agrees({}, {"": "up"})


@given(st.integers(2, 9), st.integers(0, 2**32))
def test_every_response_stands_in_every_place_as_often(k: int, seed: int) -> None:
    draw, orders = random.Random(seed), []
    for _ in range(k):
        orders.append(a.balanced_order(k, orders, [], draw))
    assert all(sorted(o) == list(range(k)) for o in orders)
    first = [o[0] for o in orders]
    assert max(map(first.count, first)) <= math.ceil(k / 2)
    if k == 2:
        assert sorted(first) == [0, 1]


def test_a_rater_s_own_sides_break_the_tie() -> None:
    own = [[0, 1]] * 3
    assert all(a.balanced_order(2, [], own, random.Random(s)) == [1, 0] for s in range(20))


def test_disagreement_by_hand() -> None:
    assert a.disagreement([[0.0], [0.0]]) == 1.0  # one model, undecided
    assert a.disagreement([[3.0], [0.0]]) == pytest.approx(2 - 2 / (1 + math.exp(-3.0)))
    assert a.disagreement([[50.0, -50.0], [0.0, 0.0]]) == pytest.approx(1.0)  # sure, and opposed
    assert a.disagreement([[1.0, 1.0], [0.0, 0.0]]) == pytest.approx(0.0)
    assert a.disagreement([[1.0, 2.0]]) == 0.0


def test_a_first_comparison_tells_the_same_whoever_is_compared() -> None:
    gain = a.information_gain(np.zeros((4, 4)))
    assert gain[~np.eye(4, dtype=bool)] == pytest.approx(a.UNTOLD)


def test_information_gain_before_anybody_spoke() -> None:
    """Equal and independent: E p = 1/2, so log 2 less the mean entropy, by plain integration."""
    sd = a.PRIOR_SD
    x = np.linspace(-12 * sd, 12 * sd, 200_001)
    density = np.exp(-(x**2) / (4 * sd**2)) / math.sqrt(4 * math.pi * sd**2)  # variance 2 sd^2
    p = np.clip(1 / (1 + np.exp(-x)), 1e-15, 1 - 1e-15)
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    expected = math.log(2) - float((density * entropy).sum() * (x[1] - x[0]))
    gain = a.information_gain(np.zeros((2, 2)))
    assert gain[0, 1] == pytest.approx(expected, abs=2e-4)
    assert gain[0, 0] == pytest.approx(0.0, abs=1e-9)


@given(st.integers(2, 5), st.integers(0, 2**32))
def test_information_gain_is_symmetric_and_between_0_and_log_2(k: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    wins = draw.integers(0, 5, (k, k)).astype(float)
    np.fill_diagonal(wins, 0)
    gain = a.information_gain(wins)
    assert np.allclose(gain, gain.T, atol=1e-9)
    assert (gain >= -1e-9).all()
    assert (gain <= math.log(2)).all()


def test_what_is_known_tells_less() -> None:
    few = a.information_gain(a.wins(3, [(0, 1, 1.0)]))
    many = a.information_gain(a.wins(3, [(0, 1, 1.0)] * 20))
    assert many[0, 1] < few[0, 1] < few[0, 2]


def test_arms_come_in_their_shares() -> None:
    arms, draw = Arms(random=0.5, disagreement=0.2, information=0.3), random.Random(1)
    drawn = [a.choose_arm(arms, draw) for _ in range(4000)]
    for name, share in (("random", 0.5), ("disagreement", 0.2), ("information", 0.3)):
        assert abs(drawn.count(name) / 4000 - share) < 5 * math.sqrt(share * (1 - share) / 4000)
