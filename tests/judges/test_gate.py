"""What a gate lets through: by part, by principle, by confidence, with errors as rare as it says."""

from __future__ import annotations

import numpy as np
import pytest

from accord.core.types import Prompt, Response
from accord.judges.check import Tried, check_judge
from accord.judges.gate import allowed_by
from accord.judges.templates import JudgedItem
from accord.judges.thresholds import Thresholds
from accord.judges.verdict import JudgeVerdict

LEAST = Thresholds(accuracy=0.6, kappa=0.2, pairs=30, risk=0.1)


def verdict(p: float) -> JudgeVerdict:
    return JudgeVerdict((p, 1 - p), ((p, 1 - p), (p, 1 - p)))


def rows(part: str, n: int, right: float, sure: float, rng: np.random.Generator) -> list[Tried]:
    """A pair of each of n prompts, on which the judge is as sure as said, and right so often."""
    trials = []
    for k in range(n):
        first, hit = bool(rng.random() < 0.5), bool(rng.random() < right)
        p = sure if first == hit else 1 - sure
        trials.append(Tried(f"{part}{k}", first, verdict(p), within=(part,)))
    return trials


def item(principle: str = "", **tags: str) -> JudgedItem:
    prompt = Prompt.user("question").model_copy(update={"tags": tags})
    return JudgedItem(prompt, (Response(text="a"), Response(text="b")), principle=principle)


def test_labels_of_a_principle_that_fails_are_left_to_people() -> None:
    rng = np.random.default_rng(1)
    report = check_judge(
        "j",
        rows("principle=x", 60, 0.5, 0.9, rng) + rows("principle=y", 240, 0.97, 0.9, rng),
        LEAST,
    )
    passed = {p.within: p.passes for p in report.parts}
    assert passed == {"all": True, "principle=x": False, "principle=y": True}
    for by, x in ((None, False), ([], True), (["principle"], False)):
        allowed = allowed_by(report, alone=False, by=by)
        assert allowed(item("y"), verdict(0.6))
        assert allowed(item("x"), verdict(0.6)) == x
    assert not allowed_by(report, alone=False)(item("z"), verdict(0.6))  # never measured


def test_alone_it_labels_what_it_is_sure_enough_of() -> None:
    """Where it is sure it errs in 1 of 50, else in 4 of 10: only the sure ones may be labels."""
    rng = np.random.default_rng(2)
    report = check_judge(
        "j", rows("topic=a", 300, 0.98, 0.95, rng) + rows("topic=a", 200, 0.6, 0.7, rng), LEAST
    )
    assert report.confidence == pytest.approx(0.95)
    allowed = allowed_by(report, alone=True)
    assert allowed(item(topic="a"), verdict(0.96))
    assert allowed(item(topic="a"), verdict(0.04))
    assert not allowed(item(topic="a"), verdict(0.9))
    assert allowed_by(report, alone=False)(item(topic="a"), verdict(0.6))


def test_what_it_may_not_label_does_not_set_its_confidence() -> None:
    """Sure and wrong on one topic, sure and right on the other: it decides the other alone."""
    rng = np.random.default_rng(3)
    both = rows("topic=a", 200, 0.98, 0.95, rng) + rows("topic=b", 150, 0.3, 0.95, rng)
    report = check_judge("j", both, LEAST)
    assert report.confidence == pytest.approx(0.95)
    allowed = allowed_by(report, alone=True)
    assert allowed(item(topic="a"), verdict(0.96))
    assert not allowed(item(topic="b"), verdict(0.96))
    assert (
        check_judge("j", both, LEAST, by=[]).confidence is None
    )  # asked about no topic: all of them


def test_the_errors_of_what_it_decides_alone_are_as_rare_as_the_gate_says() -> None:
    """300 gates on 300 prompts of a judge that is right as often as it says: what one lets through errs in
    more than a tenth in one of twenty (`decides_alone`, level .95) and not in more."""
    rng = np.random.default_rng(4)
    over, opened = 0, 0
    for _ in range(300):
        sure, first = 0.5 + rng.random(300) / 2, rng.random(300) < 0.5
        says_first = (rng.random(300) < sure) == first
        trials = [
            Tried(str(k), bool(f), verdict(s if of else 1 - s))
            for k, (s, f, of) in enumerate(zip(sure, first, says_first, strict=True))
        ]
        report = check_judge("j", trials, LEAST)
        if report.confidence is not None and report.parts[0].passes:
            opened += 1
            over += (
                1 - (report.confidence + 1) / 2 > 0.1
            )  # confidence is uniform above the threshold
    assert opened > 100
    assert over <= 0.08 * 300
