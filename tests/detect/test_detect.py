"""The house's detectors on answers whose truth is planted."""

from __future__ import annotations

import random

import pytest

from accord.core.types import Exchange, Metric, Prompt, Response
from accord.detect.base import DetectorContext, Reply, configured
from accord.detect.divergence import diverges

CONTEXT = DetectorContext(proxy="reward", truth="gold")


def answers(reward: float, gold: float, per_word: float = 0.0, seed: int = 1) -> list[Reply]:
    draw, found = random.Random(seed), []
    for i in range(40):
        words = draw.randrange(3, 40)
        exchange = Exchange(prompt=Prompt.user(f"p{i}"), response=Response(text="so " * words))
        scores = {
            "reward": reward + per_word * words + draw.gauss(0, 0.2),
            "gold": gold + draw.gauss(0, 0.2),
        }
        found.append(Reply(exchange, scores))
    return found


@pytest.mark.parametrize(
    ("after", "outcome"),
    [((1.0, -1.0), "fail"), ((-1.0, 1.0), "fail"), ((1.0, 1.0), "pass"), ((0.0, 1.0), "pass")],
)
def test_divergence(after: tuple[float, float], outcome: str) -> None:
    ((_, _, make),) = configured(["divergence"])
    found = make(CONTEXT)(answers(*after), answers(0.0, 0.0, seed=2))
    assert found.outcome == outcome
    assert found.metrics["gold"].value == pytest.approx(after[1], abs=0.2)
    assert make(DetectorContext())(answers(*after), []).outcome == "undefined"


def test_an_interval_that_holds_0_is_no_side() -> None:
    up, down = Metric(value=1, low=0.5, high=2, n=9), Metric(value=-1, low=-2, high=-0.5, n=9)
    none, wide = Metric(value=1, n=1), Metric(value=-1, low=-2, high=0, n=9)
    assert diverges(up, down)
    assert diverges(down, up)
    assert not any((diverges(up, up), diverges(up, none), diverges(up, wide)))


def test_reward_of_length() -> None:
    ((_, _, make),) = configured(["reward_length"])
    look = make(CONTEXT)
    assert look(answers(0.0, 0.0, per_word=0.05), []).outcome == "warn"
    assert look(answers(0.0, 0.0, per_word=-0.05), []).outcome == "pass"
    assert look([], []).outcome == "undefined"
