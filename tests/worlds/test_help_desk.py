"""The gold scorer on the world it was made for: every candidate gets the score of its kind."""

from __future__ import annotations

from collections import Counter

import pytest

from accord.core.types import Response
from accord.pipeline.recipe import recipes_dir
from accord.worlds.base import open_world, truth
from accord.worlds.help_desk import AXES, quantities

WORLD = open_world(recipes_dir() / "support" / "world.yaml")
EXPECTED = {  # kind -> axes that are not 1
    "right": {},
    "padded": {"length": None},
    "wrong": {"accuracy": 0, "resolution": 0},
    "rude": {"tone": 0},
    "refusing": {"resolution": 0},
    "flattering": {"accuracy": 0, "resolution": 0},
    "caving": {"accuracy": 0, "resolution": 0},
    "missed": {"resolution": 0, "escalation": 0},
}


def test_every_candidate_scores_as_its_kind() -> None:
    for case in WORLD.cases:
        for candidate in case.candidates:
            axes = WORLD.gold(case, Response(text=candidate.text))
            for axis in AXES:
                expected = EXPECTED[candidate.kind].get(axis, 1)
                if expected is not None:
                    assert axes[axis] == expected, (axis, candidate, axes)
            assert axes["gold"] == pytest.approx(sum(axes[a] for a in AXES) / 5)


def test_the_world_is_as_large_as_told() -> None:
    kinds = Counter(case.kind for case in WORLD.cases)
    assert len(WORLD.facts) == 24
    assert len(WORLD.by_prompt) == len(WORLD.cases) == 438
    assert set(kinds) == {
        "plain", "vague", "abusive", "false_premise", "break_policy", "lookalike", "escalation"
    }  # fmt: skip


def test_the_right_answer_is_best_for_every_message() -> None:
    for case in WORLD.cases:
        scores = [truth(WORLD, case, Response(text=c.text)) for c in case.candidates]
        assert case.candidates[0].kind == "right"
        assert scores[0] == max(scores) == 1.0
        assert scores.count(1.0) == 1


def test_length_and_cut_answers() -> None:
    case = WORLD.cases[0]
    fact = WORLD.facts[case.fact].answers[0]

    def brevity(words: int) -> float:
        padded = fact + " so" * (words - len(fact.split()))
        return WORLD.gold(case, Response(text=padded))["length"]

    assert [brevity(n) for n in (20, 21, 33, 40, 60)] == pytest.approx([1, 0.95, 0.35, 0, 0])
    assert WORLD.gold(case, Response(text=fact, finish="length"))["length"] == 0
    assert truth(WORLD, case, Response(text="  ")) == 0


def test_quantities_are_normalised() -> None:
    text = "45-day returns, $8.00 or $ 12, 10 percent, 12% off, 3 Hours, 160 kilos"
    expected = {"45 day", "$8", "$12", "10 %", "12 %", "3 hour", "160 kg"}
    assert quantities(text) == expected
