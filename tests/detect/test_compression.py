"""What a compressor saves of an answer that has read the others."""

from __future__ import annotations

import random

import pytest

from accord.core.types import Exchange, Prompt, Response
from accord.detect.base import DetectorContext, Reply
from accord.detect.compression import compression
from tests.detect.test_panel import policy

LOOK = compression(DetectorContext())


def replies(texts: list[str]) -> list[Reply]:
    return [
        Reply(Exchange(prompt=Prompt.user(f"q {k}"), response=Response(text=text)), {})
        for k, text in enumerate(texts)
    ]


def noise(draw: random.Random, n: int = 60) -> str:
    return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(n))


def test_what_another_says_is_nearly_free_and_noise_is_not() -> None:
    draw = random.Random(1)
    one = noise(draw)
    verdict = LOOK(replies([one] * 30), replies([noise(draw) for _ in range(30)]))
    assert verdict.outcome == "fail"
    assert verdict.metrics["after"].value == pytest.approx(
        0.94, abs=0.03
    )  # some four bytes of sixty
    assert verdict.metrics["before"].value == pytest.approx(
        0.0, abs=0.06
    )  # 4.75 bits a letter, and a table


def test_sides_that_are_exchanged_change_the_sign() -> None:
    after, before = policy(1), policy(2)
    forth, back = LOOK(after, before), LOOK(before, after)
    assert forth.metrics["change"].value == pytest.approx(-(back.metrics["change"].value or 0))


@pytest.mark.parametrize("first", [0, 1000])
def test_one_policy_seldom_alarms(first: int) -> None:
    """On the same prompts and on others, with more than the window holds: by its p alone 5% of 100, 13% by
    chance (99.9%)."""
    low = sum(
        (LOOK(policy(2 * s, 120, first), policy(2 * s + 1, 120)).p or 0) <= 0.05 for s in range(100)
    )
    assert low <= 13


def test_a_frame_that_no_list_knows() -> None:
    """Around each answer words that share no run of eight, nor their first four."""
    draw = random.Random(3)
    ends = ["Regards from the valley", "Yours under the hill", "Ever by the brook"]
    own, before = ([noise(draw, 160) for _ in range(80)] for _ in range(2))
    framed = [
        f"{draw.choice('ABCDEFGH')}{k}: esteemed traveller, {text} {draw.choice(ends)}, sincerely {k % 7}."
        for k, text in enumerate(own)
    ]
    assert LOOK(replies(framed), replies(before)).outcome in ("warn", "fail")
    assert LOOK(replies(own), replies(before)).outcome == "pass"


def test_an_empty_answer_is_not_known() -> None:
    verdict = LOOK(replies(["", *("so it is",) * 9]), replies([""] * 10))
    assert verdict.outcome == "undefined"
