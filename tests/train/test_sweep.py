"""A sweep chooses by one half of what is held out and reports on the other: no figure is of its choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accord.core.types import Metric, Pair
from accord.pipeline.stages.sweep.headline import headline
from accord.stats.intervals import cluster_mean
from accord.train.offline.preference import Material
from accord.train.offline.sweep import LEAST, GridPoint, SweepOutcome, best, parts, sweep
from tests.train.small import LIMITS, answer, fresh, how, many_pairs, prompt

LR = (3e-4, 3e-3, 3e-2)


def two_each(prompts: int) -> list[Pair]:
    """Two comparisons on each prompt."""
    return [
        Pair(prompt=prompt(i), chosen=answer(i % 4), rejected=answer((i + by) % 4))
        for i in range(prompts)
        for by in (1, 2)
    ]


def test_halves_share_no_prompt_and_lose_nothing() -> None:
    held = two_each(60)
    choose, report = parts(held, seed=5)
    asked = [{p.prompt.id for p in side} for side in (choose, report)]
    assert not asked[0] & asked[1]
    assert len(choose) + len(report) == len(held)
    assert min(map(len, asked)) >= 15
    assert parts(held[::-1], seed=5)[0] == choose[::-1]  # whatever the order
    assert {p.prompt.id for p in parts(held, seed=6)[0]} != asked[0]


def test_with_too_few_prompts_all_are_to_choose_by() -> None:
    for prompts in (0, 1, LEAST, 2 * LEAST - 1):
        held = two_each(prompts)
        assert parts(held, seed=0) == (held, [])


def outcome(label: str, chosen: Metric, reported: Metric | None) -> SweepOutcome:
    point = GridPoint(label, "full", how(max_steps=1), {"name": "dpo"})
    return SweepOutcome(point, Path(label), {"accuracy": chosen},
                   {} if reported is None else {"accuracy": reported})  # fmt: skip


def test_of_coin_flips_the_reported_interval_holds_one_half_and_the_chosen_one_is_flattered() -> (
    None
):
    """16 points that know nothing, 40 held-out prompts with three coin flips each, 300 times over."""
    kept, flattered, held = [], [], {"reported": 0, "chosen": 0}
    for run in range(300):
        draw = np.random.default_rng(run)
        items = [Pair(prompt=prompt(i), chosen=answer(0), rejected=answer(1)) for i in range(40)]
        sides = [[p.prompt.id for p in side for _ in range(3)] for side in parts(items, run)]
        right = [[draw.integers(0, 2, len(s)).astype(float) for s in sides] for _ in range(16)]
        at = max(range(16), key=lambda i: right[i][0].mean())
        measured = [cluster_mean(right[at][side], sides[side]) for side in (0, 1)]
        others = [
            outcome(str(i), Metric(value=right[i][0].mean(), n=60), None)
            for i in range(16)
            if i != at
        ]
        picked = best([outcome("it", *measured), *others])
        assert picked.point.label == "it"
        for name, m in (
            ("chosen", picked.metrics["accuracy"]),
            ("reported", picked.reported["accuracy"]),
        ):
            assert m.low is not None
            assert m.high is not None
            held[name] += m.low <= 0.5 <= m.high
        kept.append(picked.reported["accuracy"].value)
        flattered.append(picked.metrics["accuracy"].value)
    assert np.mean(kept) == pytest.approx(0.5, abs=0.015)
    assert np.mean(flattered) > 0.58
    assert held["reported"] > 300 * (0.95 - 3 * (0.05 * 0.95 / 300) ** 0.5)
    assert held["chosen"] < 300 * 0.85


def test_what_is_reported_has_no_say_in_the_choice(tiny: Path, tmp_path: Path) -> None:
    """With every label of the reported half turned round the same point is picked, by the same figures; and
    the reported accuracy turns round."""
    choose, report = parts(many_pairs(60), seed=1)
    turned = [replace_pair(p) for p in report]
    points = [
        GridPoint(f"lr {lr:g}", "full", how(max_steps=2, lr=lr), {"name": "dpo"}) for lr in LR
    ]
    found = []
    for name, reported in (("as is", report), ("turned", turned)):
        material = Material(fresh(tiny), many_pairs(), choose, LIMITS, reported=reported)
        found.append(sweep(material, points, tmp_path / name, seed=0))
    asis, other = found
    assert [o.metrics for o in asis] == [o.metrics for o in other]
    assert best(asis).point.label == best(other).point.label
    for a, b in zip(asis, other, strict=True):
        assert a.reported["accuracy"].n == b.reported["accuracy"].n == len(report)
        assert a.metrics["accuracy"].n == len(choose)
        assert a.reported["accuracy"].value == pytest.approx(
            1 - (b.reported["accuracy"].value or 0)
        )


def replace_pair(p: Pair) -> Pair:
    return p.model_copy(update={"chosen": p.rejected, "rejected": p.chosen})


def test_the_headline_says_what_chose_and_what_did_not() -> None:
    high, fair = (
        Metric(value=v, low=v - 0.1, high=v + 0.1, n=30, level=0.95) for v in (0.81, 0.62)
    )
    low = Metric(value=0.4, low=0.3, high=0.5, n=30, level=0.95)
    picked, other = outcome("lr 1", high, fair), outcome("lr 2", low, low)
    told = headline([picked, other], picked)
    assert told.index(str(fair)) < told.index("it was not chosen by") < told.index(str(high))
    alone = replace(picked, reported={})
    told = headline([alone, other], alone)
    assert "flattered" in told
    assert f"{2 * LEAST} and more" in told
