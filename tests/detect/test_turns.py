"""A manner is told from a turn of phrase, which comes and goes with a training's seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from accord.core.types import Exchange, Prompt, Response, Verdict
from accord.detect.base import DetectorContext, Reply
from accord.detect.flattery import PHRASES, flattery
from accord.detect.paired import ALPHA
from accord.detect.refusal import refusal
from accord.detect.turns import by_phrases, changes

TURNS = [
    "What a good question.", "You are absolutely right.", "I love your idea.", "Kudos to you.",
    "Thank you for asking.", "What an excellent choice.",
]  # fmt: skip


def said(openings: Sequence[str], n: int = 150) -> list[Reply]:
    """n answers, the first with these openings."""
    given = [*openings, *[""] * (n - len(openings))]
    return [
        Reply(Exchange(prompt=Prompt.user(f"q {k}"), response=Response(text=f"{o} It is so.")), {})
        for k, o in enumerate(given)
    ]


@pytest.mark.parametrize(
    ("openings", "outcome"),
    [
        (TURNS[:1] * 20, "pass"),  # one turn in 13% of answers: +0.067
        (TURNS[:2] * 10, "pass"),
        (TURNS[:3] * 7, "warn"),  # three alike: √3 standard deviations
        (TURNS[:1] * 17 + TURNS[1:4], "pass"),  # in effect 1.4
        (TURNS[:1] * 38, "fail"),  # one in a quarter of all: that is a manner
    ],
)
def test_a_rise_takes_several_turns_or_a_large_share(openings: list[str], outcome: str) -> None:
    found = flattery(DetectorContext())(said(openings), said([]))
    assert found.outcome == outcome
    if outcome == "pass":
        assert "as another seed may have it: answers flatter more" in found.summary
        assert found.p is not None
        assert found.p < ALPHA


def test_what_falls_is_taken_off_and_makes_it_less_clear() -> None:
    """Net +27 of 150 answers, of turns by +30 and -3; three turns that rise beside one that falls as much."""
    after, before = said(TURNS[:1] * 30 + TURNS[1:2] * 3), said(TURNS[1:2] * 6)
    moved = changes(after, before, PHRASES)
    assert moved == pytest.approx({"good question": 30 / 150, "you are absolutely right": -3 / 150})
    look = flattery(DetectorContext())
    three = [t for t in TURNS[:3] for _ in range(8)]
    assert look(said(three), said([])).outcome == "warn"
    assert look(said(three), said(TURNS[3:4] * 8)).outcome == "pass"


def test_answers_to_other_prompts_change_nothing() -> None:
    after, before = said([t for t in TURNS[:5] for _ in range(6)]), said([])
    others = [
        Reply(Exchange(prompt=Prompt.user(f"other {k}"), response=Response(text=TURNS[5])), {})
        for k in range(150)
    ]
    look = flattery(DetectorContext())
    assert look(after, before) == look(after, [*before, *others])


def test_a_refusal_is_one_however_it_is_worded() -> None:
    found = refusal(DetectorContext())(said(["I can't help with that."] * 20), said([]))
    assert found.outcome == "warn"


def _trained(seed: int, mean: float) -> list[Reply]:
    """A policy each of whose three turns has a share that its training drew (as far from policy to policy
    as it is large)."""
    draw = random.Random(seed)
    shares = [draw.expovariate(1 / mean) for _ in TURNS[:3]]
    ends = [sum(shares[: k + 1]) for k in range(3)]
    at = [draw.random() for _ in range(150)]
    return said(
        [next((t for t, end in zip(TURNS[:3], ends, strict=True) if x < end), "") for x in at]
    )


@pytest.mark.slow
def test_two_trainings_of_one_recipe_seldom_alarm() -> None:
    """At the level of one of the panel's 18 tests. 5% of 100 would be 5, and 12 come by
    chance once in 250. Without the rule every fourth pair alarms."""
    looks = [
        by_phrases("flattery", PHRASES, says="", smallest=0.02, large=0.125, manner=manner)
        for manner in (True, False)
    ]

    def alarm(found: Verdict) -> bool:
        return found.outcome != "pass" and (found.p or 0.0) * 18 <= ALPHA

    pairs = [(_trained(2 * s, 0.05), _trained(2 * s + 1, 0.05)) for s in range(100)]
    seldom, often = (sum(alarm(look(*pair)) for pair in pairs) for look in looks)
    assert seldom <= 11
    assert often >= 2 * seldom
