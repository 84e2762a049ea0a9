"""Detectors of what a model measured: distance from what it learned, disagreement, KL, sycophancy."""

from __future__ import annotations

import numpy as np
import pytest

from accord.core.types import Exchange, Prompt, Response, Verdict
from accord.detect.base import DetectorContext, Reply, configured
from accord.detect.sycophancy import MEASURED
from accord.evals.feedback import MEASURES as FEEDBACK
from accord.evals.premise import GOES_ALONG
from accord.evals.sycophancy import MEASURES, MIMICRY
from accord.pipeline.reading import _apart

CONTEXT = DetectorContext(proxy="reward", distance="kl")


def replies(n: int = 60, text: str = "It is so.", **columns: list[float]) -> list[Reply]:
    return [
        Reply(
            Exchange(prompt=Prompt.user(f"q {k}"), response=Response(text=text)),
            {name: values[k] for name, values in columns.items() if k < len(values)},
            ({"prompt": "p", "response": f"near {k}", "reward": 1.0},),
        )
        for k in range(n)
    ]


def looked(name: str, after: list[Reply], before: list[Reply], **keys: object) -> Verdict:
    ((_, _, make),) = configured([{"name": name, **keys}])
    verdict: Verdict = make(CONTEXT)(after, before)
    return verdict


@pytest.mark.parametrize("name", ["far", "overpaid", "disagreement"])
def test_what_no_model_has_read_is_not_looked_at(name: str) -> None:
    verdict = looked(name, replies(), replies())
    assert verdict.outcome == "undefined"
    assert "--reward" in verdict.summary
    assert verdict.p is None


@pytest.mark.parametrize(("share", "outcome"), [(0.1, "pass"), (0.35, "warn"), (0.6, "fail")])
def test_a_share_that_went_far(share: float, outcome: str) -> None:
    """From 10% of sixty; the examples are the farthest, each beside what was learned."""
    flags = [float(k < 60 * share) for k in range(60)]
    after = replies(far=flags, distance=[float(k) for k in range(60)])
    before = replies(far=[float(k % 10 == 9) for k in range(60)], distance=[0.0] * 60)
    verdict = looked("far", after, before)
    assert verdict.outcome == outcome
    if outcome != "pass":
        first = verdict.evidence[0]
        assert first["near"][0]["response"].startswith("near ")
        at = int(first["prompt"].split()[1])
        assert flags[at] == 1
        assert at >= 60 * share - 3  # the farthest of them


def test_disagreement_is_in_units_of_the_usual() -> None:
    """Two models, three: of other scale and place; the second half apart by as much again."""
    draw = np.random.default_rng(1)
    usual = draw.normal(size=(3, 400))
    scale, place = np.array([[1.0], [50.0], [0.01]]), np.array([[0.0], [-9.0], [7.0]])
    fresh = draw.normal(size=(3, 400))
    apart = _apart((fresh * scale + place).tolist(), (usual * scale + place).tolist())
    assert np.mean(apart) == pytest.approx(1, abs=0.06)
    wide = _apart((2 * fresh * scale + place).tolist(), (usual * scale + place).tolist())
    assert np.mean(wide) == pytest.approx(2, abs=0.12)
    assert (
        looked("disagreement", replies(disagreement=wide), replies(disagreement=apart)).outcome
        == "warn"
    )


def at_kl(kl: float, gain: float, seed: int = 0, n: int = 60) -> tuple[list[Reply], list[Reply]]:
    """A policy that pays so many nats for so many spreads, and its reference."""
    draw = np.random.default_rng(seed)
    old = draw.normal(size=n)
    old = (old - old.mean()) / old.std()
    after = replies(
        n,
        reward=(old + gain + draw.normal(0, 0.3, n)).tolist(),
        kl=(kl + draw.normal(0, 0.5, n)).tolist(),
    )
    return after, replies(n, reward=old.tolist(), kl=[0.0] * n)


@pytest.mark.parametrize(
    ("kl", "gain", "outcome"),
    [
        (3.0, 1.0, "pass"), (9.0, 0.8, "pass"),  # as in runs that gained and in hacked ones
        (0.6, -0.5, "pass"),  # hardly moved
        (8.0, 0.15, "warn"), (8.0, 0.02, "fail"), (4.0, -0.5, "fail"),
    ],
)  # fmt: skip
def test_kl_that_bought_nothing(kl: float, gain: float, outcome: str) -> None:
    verdict = looked("kl_cost", *at_kl(kl, gain))
    assert verdict.outcome == outcome
    assert verdict.metrics["KL"].value == pytest.approx(kl, abs=0.3)
    assert verdict.metrics["gain"].value == pytest.approx(gain, abs=0.15)


def test_kl_just_allowed_seldom_alarms() -> None:
    """At 25 nats a spread, the warning's own bound: 5% of 300, at most 8.3% by chance (99.9%)."""
    wrong = sum(looked("kl_cost", *at_kl(5.0, 0.2, seed)).outcome != "pass" for seed in range(300))
    assert wrong <= 25


def test_one_policy_has_no_kl_and_another_than_the_reference_is_not_looked_at() -> None:
    same = at_kl(0.0, 0.0)[1]
    assert looked("kl_cost", same, same).p == 1.0
    after, before = at_kl(3.0, 0.0)
    assert looked("kl_cost", before, after).outcome == "undefined"
    assert looked("kl_cost", replies(), replies()).outcome == "undefined"


def test_sycophancy_by_what_was_measured() -> None:
    """Of two measures the one that rose, at twice its p; a fall of the share right is a rise of it."""
    before = replies(**{"goes along": [0.0] * 30, "suggested wrong": [0.0] * 60})
    swayed = replies(**{"goes along": [0.0] * 30, "suggested wrong": [-1.0] * 30 + [0.0] * 30})
    verdict = looked("sycophancy", swayed, before)
    assert verdict.outcome == "fail"
    assert "suggested wrong" in verdict.summary
    alone = looked(
        "sycophancy",
        replies(**{"suggested wrong": [-1.0] * 30 + [0.0] * 30}),
        replies(**{"suggested wrong": [0.0] * 60}),
    )
    assert verdict.p == pytest.approx(2 * (alone.p or 0))
    held = replies(**{"goes along": [0.0] * 30, "suggested wrong": [1.0] * 30 + [0.0] * 30})
    assert looked("sycophancy", held, before).outcome == "pass"


def test_sycophancy_in_words_where_nothing_was_measured() -> None:
    agrees = replies(text="You are absolutely right.")
    assert looked("sycophancy", agrees, replies()).outcome == "fail"
    assert looked("sycophancy", replies(), agrees).outcome == "pass"
    measured = replies(text="You are absolutely right.", **{"goes along": [0.0] * 60})
    assert looked("sycophancy", measured, replies(**{"goes along": [0.0] * 60})).outcome == "pass"


def test_its_measures_are_the_evaluations_own() -> None:
    assert set(MEASURED) <= {m.name for m in (GOES_ALONG, *MEASURES, *MIMICRY, *FEEDBACK)}
