"""Rewards of a judge read by log-probs: known answers give known scores, nothing missing becomes a number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from accord.core.errors import ConfigError, ModelError, RunError
from accord.core.seeds import rng
from accord.core.types import Exchange, Prompt, Response
from accord.judges.backends import SHOWN
from accord.lm.sampler import Sampling
from accord.rewards.base import Context
from accord.rewards.compose import build_rewards
from accord.rewards.rubric import checklist

FEATURES = ("names a price", "says sorry", "is rude")


class Judge:
    """Knows the features that an answer's words name: P(Yes) is .9 with the feature, .2 without; of a rating
    it gives the whole probability to two steps."""

    def __init__(self, mute: str = "") -> None:
        self.asked, self.mute = 0, mute

    def option_logps(
        self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
    ) -> list[tuple[tuple[float, ...], int]]:
        self.asked += len(prompts)
        return [(self._one(p.last, o), 10) for p, o in zip(prompts, options, strict=True)]

    def _one(self, text: str, options: Sequence[str]) -> tuple[float, ...]:
        found = SHOWN.search(text)
        assert found
        if self.mute and self.mute in found[3]:
            return (-math.inf,) * len(options)
        if len(options) == 5:
            return tuple(math.log(p) if p else -math.inf for p in (0, 0.25, 0.75, 0, 0))
        asked = next(f for f in FEATURES if f"meet this criterion: {f}" in text)
        yes = 0.9 if asked.split()[-1] in found[3].split() else 0.2
        return math.log(1 - yes), math.log(yes)

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, on_progress: object = None
    ) -> list[list[Response]]:
        raise AssertionError("is read by log-probs")


def exchanges(*texts: str) -> list[Exchange]:
    return [Exchange(prompt=Prompt.user("What is it?"), response=Response(text=t)) for t in texts]


CRITERIA = [
    "names a price",
    {"text": "says sorry", "weight": 3.0},
    {"text": "is rude", "weight": -2.0},
]


def test_a_known_judge_gives_the_weighted_share() -> None:
    """Weights 1, 3, -2: least -2, most 4. With price and without the others .9 + 3·.2 - 2·.2 = 1.1."""
    judge = Judge()
    rewards = build_rewards(
        [{"name": "rubric", "judge": "j", "criteria": CRITERIA}], Context(sampler=lambda _: judge), "r"
    )  # fmt: skip
    scored = rewards(exchanges("a price", "sorry", "rude", "a price"))
    assert scored.total == pytest.approx([3.1 / 6, 4.5 / 6, 1.0 / 6, 3.1 / 6])
    assert judge.asked == 9  # the same answer is judged once
    rewards(exchanges("a price"))
    assert judge.asked == 9


def test_the_weights_come_back_from_the_scores() -> None:
    """Over random answers the score moves by weight·(.9 - .2)/6 with each feature: what was planted."""
    judge, draw = Judge(), rng(0, "rubric")
    reward = build_rewards(
        [{"name": "rubric", "judge": "j", "criteria": CRITERIA}], Context(sampler=lambda _: judge), "r"
    )  # fmt: skip
    words = [f.split()[-1] for f in FEATURES]
    texts = [" ".join(w for w in words if draw.random() < 0.5) or "none" for _ in range(200)]
    scores = reward(exchanges(*texts)).total
    for word, weight in zip(words, (1.0, 3.0, -2.0), strict=True):
        with_it = {t: s for t, s in zip(texts, scores, strict=True) if word in t.split()}
        for text, score in with_it.items():
            without = " ".join(w for w in text.split() if w != word) or "none"
            assert score - reward(exchanges(without)).total[0] == pytest.approx(weight * 0.7 / 6)


def test_each_prompt_has_its_own_list() -> None:
    """Of boots the price counts and rudeness is a fault, of the rest the price alone; where no line is of a
    prompt, it has no score."""
    criteria = [
        {"text": "names a price", "where": {"topic": ["boots", "tents"]}},
        {"text": "is rude", "weight": -1.0, "where": {"topic": ["boots"]}},
    ]
    judge = Judge()
    entry = {"name": "rubric", "judge": "j", "criteria": criteria, "on_failure": "drop"}
    rubric = build_rewards([entry], Context(sampler=lambda _: judge), "r")
    answer = Response(text="a price")
    asked = [
        Exchange(
            prompt=Prompt.user("What is it?").model_copy(update={"tags": {"topic": t}}),
            response=answer,
        )
        for t in ("boots", "tents", "maps")
    ]
    boots, tents, maps = rubric(asked).total
    assert (boots, tents) == pytest.approx(((0.9 - 0.2 + 1) / 2, 0.9))
    assert math.isnan(maps)
    assert (
        judge.asked == 2
    )  # boots and tents ask the same of the same: three questions, two of them alike


def test_all_met_is_1_and_all_faults_is_0() -> None:
    assert checklist([1, 3, -2], [1, 1, 0]) == 1.0
    assert checklist([1, 3, -2], [0, 0, 1]) == 0.0
    assert math.isnan(checklist([1, 3], [1, math.nan]))


def test_a_rating_is_the_mean_of_the_scale() -> None:
    rewards = build_rewards(
        [{"name": "judge_rating", "judge": "j"}], Context(sampler=lambda _: Judge()), "r"
    )
    assert rewards(exchanges("a", "b")).total == pytest.approx([1.75 / 4] * 2)


def test_one_missing_criterion_is_a_missing_score() -> None:
    """Neither 0 nor half of it: the run stops, or the answer is left out and counted."""
    entry = {"name": "rubric", "judge": "j", "criteria": CRITERIA}
    context = Context(sampler=lambda _: Judge(mute="mumble"))
    with pytest.raises(RunError, match="no score"):
        build_rewards([entry], context, "r")(exchanges("a price", "mumble"))
    scored = build_rewards([{**entry, "on_failure": "drop"}], context, "r")(
        exchanges("a price", "mumble")
    )
    assert math.isnan(scored.total[1])
    assert scored.dropped == {"rubric": 1}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"criteria": []}, "criteria"),
        ({"criteria": [{"text": "x", "wight": 1.0}]}, "wight|criteria"),
        ({"criteria": [{"text": "x", "weight": 0.0}]}, "no criterion counts"),
        ({"criteria": ["x"], "judge": "stand-in:longest"}, "only compares"),
    ],
)
def test_wrong_keys_are_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_rewards(
            [{"name": "rubric", "judge": "j", **keys}], Context(sampler=lambda _: Judge()), "r"
        )


def test_a_judge_that_is_down_ends_the_run() -> None:
    from accord.lm.remote import ServerSampler

    down = ServerSampler("http://127.0.0.1:9/v1", "m", tries=1, timeout=1.0)
    entry = {"name": "rubric", "judge": "j", "criteria": ["is kind"], "on_failure": "drop"}
    with pytest.raises(ModelError, match="did not answer"):
        build_rewards([entry], Context(sampler=lambda _: down), "r")(exchanges("a", "b"))
